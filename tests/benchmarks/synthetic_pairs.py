"""`python tests/benchmarks/synthetic_pairs.py FOLDER`: sentence pairs by the million, with a known number of defects.

The sentences are translations that the catalogs of Django, Sphinx and wagtail hold, and those of SIB-200 if its folder
is given. A record joins two or three true pairs of one language pair with a number between them, so that each is
another, and each is a translation. What is planted is written beside them, in `planted.json`. The same seed gives the
same records; a file's worth of them is held in memory.
"""

import argparse
import collections
import contextlib
import functools
import gzip
import importlib.util
import itertools
import json
import math
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterator

import numpy as np
import polib
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from emma_jax import languages
from emma_jax.corpus import codes

PACKAGES = ("django", "sphinx", "wagtail")
COLUMNS = ("src_text", "tgt_text", "src_lang", "tgt_lang")
RECORDS, PLANTED = "pairs", "planted.json"  # in the folder
ROWS_PER_FILE, LEAST_MIXED_FILES, ROWS_PER_GROUP = 1_000_000, 4, 1 << 16
NUM_PAIRS, ZIPF_EXPONENT = 100, 0.8  # the four largest have 28% of all records
LEAST_SENTENCES, NUM_NUMBERS = 150, 1000  # 150 * 150 * 1000 records before one comes again
CHARACTERS = (12, 120)  # of a sentence
NUMBER, DIGITS = re.compile(r"\d+", re.ASCII), {*"123456789"}
SHORT = 60  # characters of a record that gets a third sentence

# Share of each defect. Those of DUPLICATES are copies of clean records, all others are records of their own.
DUPLICATES = dict(duplicate=0.05, swapped=0.02, spaced=0.01, decomposed=0.01)
DEFECTS = dict(
    identical=0.01, wrong_script=0.01, length_ratio=0.01, mojibake=0.005, control=0.005, numbers=0.005,
    placeholders=0.005, repeated=0.005, empty=0.0025,
)  # fmt: skip


class Pair:
    """True pairs of two languages, of which records are joined."""

    def __init__(self, src: str, tgt: str, sentences: dict[tuple[str, str], None], foreign: list[str]):
        self.languages, self.num_sentences = (src, tgt), len(sentences)
        self.sides = [pa.array(side) for side in zip(*sentences, strict=True)]
        self.foreign = pa.array([*itertools.islice(itertools.cycle(foreign), len(sentences))])
        self.size = len(sentences) ** 2 * NUM_NUMBERS
        # Steps of this length come to every number below `size` before they come to one again.
        self.step = next(step for step in itertools.count(int(self.size * 0.381966)) if math.gcd(step, self.size) == 1)

    def records(self, numbers: np.ndarray) -> pa.Table:
        """The records of these numbers, with the same sentences in a script of another language as `foreign`."""
        drawn = (numbers.astype(np.int64) * self.step + 17) % self.size
        drawn, number = np.divmod(drawn, NUM_NUMBERS)
        first, second = np.divmod(drawn, self.num_sentences)
        third = (first * 7 + second) % self.num_sentences
        number = pc.cast(pa.array(number), pa.string())
        length = pc.utf8_length(self.sides[0]).to_numpy()
        short = pa.array(length[first] + length[second] < SHORT)
        texts = []
        for side in (*self.sides, self.foreign):
            text = [side.take(pa.array(rows)) for rows in (first, second, third)]
            last = pc.if_else(short, pc.binary_join_element_wise(text[1], text[2], " "), text[1])
            texts.append(pc.binary_join_element_wise(text[0], number, last, " "))
        langs = [pa.repeat(code, len(numbers)) for code in self.languages]
        return pa.table([*texts[:2], *langs, texts[2]], names=[*COLUMNS, "foreign"])


def write(
    folder: pathlib.Path,
    num_records: int,
    sib200: str = "",
    suffix: str = "parquet",
    mixed: bool = False,
    seed: int = 0,
) -> dict[str, int]:
    """What was planted: kind -> records. Writes the records and PLANTED.

    `suffix` is parquet, jsonl or jsonl.gz. The files are in a folder for each pair, as MaLA has them, or else each is a
    mixture of all pairs.
    """
    pairs = make_pairs(sib200)
    shares = np.arange(1, len(pairs) + 1) ** -ZIPF_EXPONENT
    ends = np.rint(np.cumsum(shares) / shares.sum() * num_records).astype(int)
    counts = np.diff(ends, prepend=0)
    num_files = max(LEAST_MIXED_FILES if mixed else 1, -(-num_records // ROWS_PER_FILE))
    done = [collections.Counter() for _ in pairs]
    for file in range(num_files):
        tables = []
        for index, pair in enumerate(pairs):
            rng = np.random.default_rng([seed, index, file])
            rows = counts[index] * (file + 1) // num_files - counts[index] * file // num_files
            tables.append(_with_defects(pair, rows, done[index], rng))
        table = pa.concat_tables(tables)
        if mixed:
            _write(table.take(rng.permutation(len(table))), folder / RECORDS / f"{file:05}.{suffix}")
            continue
        for part in tables:
            for forward in (True, False):  # swapped records have a folder of their own
                of_folder = part.filter(pc.equal(pc.equal(part["src_lang"], part["src_lang"][0]), forward))
                if len(of_folder):
                    name = f"{of_folder['src_lang'][0]}-{of_folder['tgt_lang'][0]}"
                    _write(of_folder, folder / RECORDS / name / f"{file:05}.{suffix}")
    planted = sum(done, collections.Counter())
    found = {kind: planted[kind] for kind in ("clean", *DUPLICATES, *DEFECTS)}
    found |= dict(records=num_records, distinct=num_records - sum(planted[kind] for kind in DUPLICATES))
    (folder / PLANTED).write_text(json.dumps(found, indent=1))
    return found


def make_pairs(sib200: str = "") -> list[Pair]:
    """The pairs of languages with the most sentences: all with English, and neighbours by the number of sentences."""
    texts = collections.defaultdict(dict)
    for language, key, text in itertools.chain(_catalogs(), _sib200(pathlib.Path(sib200)) if sib200 else ()):
        texts[language].setdefault(key, text)
    texts = {language: _good(language, of_keys) for language, of_keys in texts.items()}
    others = sorted(texts.keys() - {languages.ENGLISH}, key=lambda code: (-len(texts[code]), code))
    names = [(code, languages.ENGLISH) for code in others] + [*itertools.pairwise(others[:40])]
    sentences = {(src, tgt): _aligned(texts[src], texts[tgt]) for src, tgt in names}
    largest = sorted(names, key=lambda name: (-len(sentences[name]), name))[:NUM_PAIRS]
    foreign = {script: [*texts[code].values()] for script, code in (("Latn", "rus_Cyrl"), ("", languages.ENGLISH))}
    return [
        Pair(src, tgt, sentences[src, tgt], foreign["Latn" if tgt.endswith("Latn") else ""])
        for src, tgt in largest
        if len(sentences[src, tgt]) >= LEAST_SENTENCES
    ]


def _catalogs() -> Iterator[tuple[str, str, str]]:
    for package in PACKAGES:
        root = pathlib.Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(root.glob("**/LC_MESSAGES/*.mo")):
            language = codes.normalise(path.parts[-3])
            for entry in polib.mofile(str(path)):
                yield languages.ENGLISH, entry.msgid, entry.msgid
                yield language, entry.msgid, entry.msgstr


def _sib200(folder: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    options = pa.csv.ParseOptions(delimiter="\t", quote_char=False)
    for path in sorted(folder.glob("*/*.tsv")):
        table = pa.csv.read_csv(path, parse_options=options)
        for key, text in zip(table["index_id"].to_pylist(), table["text"].to_pylist(), strict=True):
            yield codes.normalise(path.parent.name), f"sib200 {key}", text


def _good(language: str, texts: dict[str, str]) -> dict[str, str]:
    """The texts that no filter has a reason to drop."""
    text = pa.array([" ".join(unicodedata.normalize("NFC", text).split()) for text in texts.values()], pa.string())
    length = pc.utf8_length(text).to_numpy()
    scripts = "".join(rf"\p{{{name}}}" for name in languages.SCRIPTS[language[4:]].split())
    letters = pc.utf8_length(pc.replace_substring_regex(text, f"[^{scripts}]", "")).to_numpy()
    other = pc.match_substring_regex(text, r"[\pN%{}<>&\\|_@]|https?:|[^\P{C}]").to_numpy(zero_copy_only=False)
    good = (CHARACTERS[0] <= length) & (length <= CHARACTERS[1]) & (letters > 0.6 * length) & ~other
    return {key: text for key, text, is_good in zip(texts, text.to_pylist(), good, strict=True) if is_good}


def _aligned(src: dict[str, str], tgt: dict[str, str]) -> dict[tuple[str, str], None]:
    """The pairs of texts of one key, each once."""
    found = ((src[key], tgt[key]) for key in src if key in tgt)
    return dict.fromkeys((a, b) for a, b in found if a != b and max(len(a), len(b)) < 2.5 * min(len(a), len(b)))


def _with_defects(pair: Pair, rows: int, done: collections.Counter, rng: np.random.Generator) -> pa.Table:
    """The next `rows` records of a pair, in random order; `done` counts those of each kind."""
    shares = dict(clean=1 - sum(DUPLICATES.values()) - sum(DEFECTS.values())) | DUPLICATES | DEFECTS
    drawn = rng.multinomial(rows, [*shares.values()])
    tables = []
    for kind, count in zip(shares, drawn.tolist(), strict=True):
        if kind == "clean":
            numbers = done[kind] + np.arange(count)
        elif kind in DUPLICATES:  # of any clean record until now
            numbers = rng.integers(0, done["clean"], count)
        else:
            numbers = pair.size // 2 + sum(done[defect] for defect in DEFECTS) + np.arange(count)
        table = pair.records(numbers)
        tables.append(PLANT[kind](table).select(COLUMNS) if kind in PLANT else table.select(COLUMNS))
        done[kind] += count
    table = pa.concat_tables(tables)
    return table.take(rng.permutation(len(table))).combine_chunks()


def _set(table: pa.Table, name: str, values: pa.ChunkedArray | list[str]) -> pa.Table:
    return table.set_column(table.column_names.index(name), pa.field(name, pa.string()), values)


def _both(table: pa.Table, change: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.Table:
    for side in COLUMNS[:2]:
        table = _set(table, side, change(table[side]))
    return table


def _joined(*parts: pa.ChunkedArray | str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*parts, " ")


def _spaced(text: pa.ChunkedArray) -> pa.ChunkedArray:
    return _joined("", pc.replace_substring(text, " ", " \u00a0"), "\t\n")


def _decomposed(text: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([[unicodedata.normalize("NFD", string) for string in text.to_pylist()]], pa.string())


def _spoilt(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """UTF-8 read as Windows-1252, with two characters more that show it in any language."""
    table = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)}
    spoilt = [f"{string} – é".encode().decode("latin-1").translate(table) for string in text.to_pylist()]
    return pa.chunked_array([spoilt], pa.string())


def _foreign(table: pa.Table) -> pa.Table:
    return _set(table, "tgt_text", table["foreign"])


def _repeated(text: pa.ChunkedArray) -> pa.ChunkedArray:
    again = pc.binary_join_element_wise(pc.utf8_slice_codeunits(text, 0, 10), "", " ")
    return _joined(text, pc.binary_repeat(again, 60))


def _cut(table: pa.Table) -> pa.Table:
    """Two records on one side, little of one on the other."""
    src = table["src_text"]
    table = _set(table, "src_text", _joined(src, pa.chunked_array([*src.slice(1).chunks, *src.slice(0, 1).chunks])))
    return _set(table, "tgt_text", pc.utf8_slice_codeunits(table["tgt_text"], 0, 3))


def _with_other_number(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """A number of as many digits, none of which was in the first."""
    other = [NUMBER.sub(lambda found: min(DIGITS - {*found[0]}) * len(found[0]), string) for string in text.to_pylist()]
    return pa.chunked_array([other], pa.string())


def _on_target(change: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: _set(table, "tgt_text", change(table["tgt_text"]))


def _mismatched(table: pa.Table) -> pa.Table:
    table = _set(table, "src_text", _joined(table["src_text"], "%(count)s"))
    return _set(table, "tgt_text", _joined(table["tgt_text"], "{total}"))


PLANT: dict[str, Callable[[pa.Table], pa.Table]] = dict(
    swapped=lambda table: table.select([1, 0, 3, 2]).rename_columns(COLUMNS),
    spaced=functools.partial(_both, change=_spaced),
    decomposed=functools.partial(_both, change=_decomposed),
    identical=lambda table: _set(table, "tgt_text", table["src_text"]),
    wrong_script=_foreign,
    length_ratio=_cut,
    mojibake=_on_target(_spoilt),
    control=_on_target(lambda text: pc.replace_substring(text, " ", " \x07", max_replacements=1)),
    numbers=_on_target(_with_other_number),
    placeholders=_mismatched,
    repeated=functools.partial(_both, change=_repeated),
    empty=_on_target(lambda text: pc.utf8_slice_codeunits(text, 0, 0)),
)


def _write(table: pa.Table, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, compression="zstd", row_group_size=ROWS_PER_GROUP)
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        if path.suffix == ".gz":  # without the time in it
            file = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0))
        for batch in table.to_batches(ROWS_PER_GROUP):
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in batch.to_pylist())


def main() -> None:
    """Writes the records and prints what was planted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--num_records", type=int, default=1_000_000)
    parser.add_argument("--sib200", default="", help="the folder of SIB-200")
    parser.add_argument("--suffix", default="parquet", choices=("parquet", "jsonl", "jsonl.gz"))
    parser.add_argument("--mixed", action="store_true", help="files of all pairs, not a folder for each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(write(**vars(arguments))))


if __name__ == "__main__":
    main()
