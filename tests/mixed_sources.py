"""Sources of every format with the same few sentences in them, some damage in each, and a config that has them all."""

import bz2
import gzip
import importlib.util
import json
import os
import pathlib
import shutil
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from ml_collections import ConfigDict

from configs import base

GETTEXT = pathlib.Path(__file__).parent / "fixtures" / "gettext"
HAS_TFDS = importlib.util.find_spec("tensorflow_datasets") is not None
PAIRS = ("deu_Latn-srp_Cyrl", "srp_Cyrl-srp_Latn")

WHO = {
    "eng": "teacher fisherman baker doctor sailor farmer painter singer",
    "deu": "Lehrer Fischer Bäcker Arzt Seemann Bauer Maler Sänger",
    "fra": "professeur pêcheur boulanger médecin marin fermier peintre chanteur",
    "srp": "учитељ рибар пекар лекар морнар сељак сликар певач",
    "swa": "mwalimu mvuvi mwokaji daktari baharia mkulima mchoraji mwimbaji",
}
WHAT = {
    "eng": "table basket mirror suitcase lantern carpet bucket ladder",
    "deu": "Tisch Korb Spiegel Koffer Leuchter Teppich Eimer Leiterwagen",
    "fra": "tableau panier miroir bagage lampion tapis seau chariot",
    "srp": "сто корпу огледало кофер фењер тепих канту мердевине",
    "swa": "meza kikapu kioo sanduku taa zulia ndoo ngazi",
}
LINE = {
    "eng": "In the morning the {} carries a {} across the bridge",
    "deu": "Am Morgen trägt der {} einen {} über die Brücke",
    "fra": "Le matin, le {} porte un {} sur le pont",
    "srp": "Ујутру {} носи {} преко старог моста",
    "swa": "Asubuhi {} anabeba {} kuvuka daraja",
}
LATIN = str.maketrans(
    dict(zip("абвгдђежзијклмнопрстћуфхцчш", "abvgdđežzijklmnoprstćufhcčš", strict=True))
    | {"љ": "lj", "њ": "nj", "џ": "dž", "У": "U"}
)
# Of which sentences each source has the German and the English: the ends of a range.
GERMAN_ENGLISH = {
    "mala_lines": (12, 36),
    "mala_parquet": (0, 24),
    "memories": (30, 50),
    "moses": (20, 44),
    "table": (0, 16),
    "tatoeba": (40, 60),
}
THREE_SIDES = range(*GERMAN_ENGLISH["memories"])
SOURCES = {
    "books": ("records", "Public domain", dict(kind="book", languages="en")),
    "catalogs": ("gettext", "CC0", {}),
    "code": ("mala_code_reasoning", "see each file", {}),
    "mala_lines": ("records", "CC BY 4.0", {}),
    "mala_parquet": ("records", "CC BY 4.0", {}),
    "memories": ("tmx", "CC BY-SA 4.0", {}),
    "mono": ("records", "ODC-BY", {}),
    "moses": ("moses", "CC BY 2.0", {}),
    "opus_dedup": ("records", "as OPUS says", {}),
    "table": ("table", "CC BY-SA 4.0", {}),
    "tatoeba": ("tsv", "CC BY 2.0 FR", {}),
}
# File of a source -> words of the reason why it is bad, or not read to its end.
BAD = {
    "books/gutenberg/numbers.parquet": "has int64 in the column 'text'",
    "catalogs/library/nl.po": "is cut short",
    "code/stack-00002.jsonl.gz": "is cut short",
    "code/stack-00003.jsonl.gz": "has the columns ['content']",
    "mala_lines/2.jsonl.zst": "is cut short",
    "mala_parquet/deu_Latn-eng_Latn/cut.parquet": "is damaged",
    "mala_parquet/notes.parquet": "has the columns ['note']",
    "memories/cut.tmx": "is cut short at line",
    "memories/latin.tmx": "is malformed at line",
    "mono/fra_Latn/utf16.jsonl": "is in UTF-16",
    "mono/notes/train.jsonl": "does not say its language",
    "moses/cut.en-fr.zip": "is a damaged zip",
    "moses/uneven.en-fr.zip": "its sides have 3 and 2 lines",
    "opus_dedup/text.jsonl.gz": "is damaged",
    "table/fra_Latn/train.tsv": "has no columns id or index_id or idx",
    "tatoeba/notes.eng-deu.tsv": "has lines without a tab",
}
BAD_OF_TFDS = {"translations/tiny/wmt/1.2.0/tiny-test.tfrecord-00001-of-00002": "is damaged"}
# Reason -> records that readers leave out, besides those of catalogs.
LEFT_OUT = {"bad_json": 1, "undecodable": 5, "wrong_columns": 4, "empty_side": 1}
REFUSED = {("mul", "mala_parquet"): 1, ("xx", "mono"): 1, ("qq", "opus_dedup"): 1, ("qq", "table"): 16}


def sentence(code: str, number: int) -> str:
    """One of 64 sentences; `code` is a language, or srp_Latn."""
    if code == "srp_Latn":
        return sentence("srp", number).translate(LATIN)
    return LINE[code].format(WHO[code].split()[number % 8], WHAT[code].split()[number // 8])


def german_english(source: str) -> list[tuple[str, str]]:
    """The pairs of a source, German first."""
    return [(sentence("deu", i), sentence("eng", i)) for i in range(*GERMAN_ENGLISH[source])]


def serbian(number: int) -> str:
    """A sentence in Cyrillic, and every other one in Latin letters."""
    return sentence("srp_Latn" if number % 2 else "srp", number)


def config(root, folder, names=None, **changes) -> ConfigDict:
    """The section `corpus` of all sources, or of those in `names`, below `root`, which may be a bucket."""
    section = base.get_config().corpus
    for name in names or SOURCES:
        reader, licence, more = SOURCES[name]
        section.sources[name] = base.source(reader, f"{root}/{name}", licence, **more)
    if HAS_TFDS and not names:
        section.sources.translations = base.source("tfds", f"{root}/translations/tiny/wmt/1.2.0", "CC0")
    section.update(folder=str(folder), pairs=PAIRS, validation_share=0.3, num_buckets=2)
    section.update(changes)
    return section


def write(root: pathlib.Path, with_tfds: bool = HAS_TFDS) -> None:
    """Writes all sources."""
    _write_pairs_of_columns(root)
    _write_documents(root)
    _write_moses(root / "moses")
    _write_memories(root / "memories")
    _write_table(root / "table")
    shutil.copytree(GETTEXT, root / "catalogs")
    german = (GETTEXT / "library/de.po").read_bytes()
    _put(root, "catalogs/library/nl.po", german[: german.rindex(b"msgstr")])

    lines = [f"{i}\t{eng}\t{900 + i}\t{deu}" for i, (deu, eng) in enumerate(german_english("tatoeba"))]
    lines[3:3] = ["7\ta line of three\t8"]
    _put(root, "tatoeba/sentences.eng-deu.tsv", "\n".join(lines).encode() + "\n9\tbaker\t10\tBäcker".encode("latin-1"))
    _put(root, "tatoeba/notes.eng-deu.tsv", b"There is no tab here.\nNor here.\n")
    if with_tfds:
        _write_translations(root / "translations")


def _put(root: pathlib.Path, name: str, content: bytes | list[dict]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content).encode()
    compress = {".gz": lambda data: gzip.compress(data, mtime=0), ".zst": zstandard.compress, ".bz2": bz2.compress}
    path.write_bytes(compress.get(path.suffix, bytes)(content))


def _cut(path: pathlib.Path, share: float = 0.6) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def _write_pairs_of_columns(root: pathlib.Path) -> None:
    def row(src, tgt, src_lang, tgt_lang):
        return dict(src_text=src, tgt_text=tgt, src_lang=src_lang, tgt_lang=tgt_lang)

    mala = [row(deu, eng, "deu_Latn", "eng_Latn") for deu, eng in german_english("mala_parquet")]
    mala += [row("Ein Satz in vielen Sprachen", "A sentence in many languages", "mul", "eng_Latn")]
    mala += [row("Ein Satz auf Deutsch", "Noch ein Satz auf Deutsch", "deu_Latn", "de")]
    mala += [row("Wikipedia", "Wikipedia", "deu_Latn", "eng_Latn")]
    table = pa.Table.from_pylist(mala + [row("", "baker", "deu_Latn", "eng_Latn")])
    texts = [text.encode() for text in table["src_text"].to_pylist()[:-1]] + ["Bäcker".encode("latin-1")]
    folder = root / "mala_parquet" / "deu_Latn-eng_Latn"
    folder.mkdir(parents=True)
    pq.write_table(table.set_column(0, "src_text", pa.array(texts)), folder / "train-00000-of-00001.parquet")
    pq.write_table(table, folder / "cut.parquet")
    _cut(folder / "cut.parquet")
    pq.write_table(pa.table(dict(note=["no pair"])), root / "mala_parquet" / "notes.parquet")

    lines = [row(eng, deu, "eng_Latn", "deu_Latn") for deu, eng in german_english("mala_lines")]
    lines = [*lines, row(sentence("eng", 1), None, "eng_Latn", "deu_Latn")]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    _put(root, "mala_lines/1.jsonl.zst", content + b'{"src_text": "The sentence\n')
    _put(root, "mala_lines/2.jsonl.zst", content)
    _cut(root / "mala_lines/2.jsonl.zst")

    opus = [
        dict(source_text=sentence("eng", i), target_text=serbian(i), source_lang="en", target_lang="sr", score="0.9")
        for i in range(20)
    ]
    opus.append(opus[0] | dict(target_lang="qq"))
    _put(root, "opus_dedup/en-sr.jsonl.gz", opus)
    (root / "opus_dedup/text.jsonl.gz").write_bytes(b"This is not what gzip writes.\n" * 9)


def _write_documents(root: pathlib.Path) -> None:
    swahili = [dict(text=f"{sentence('swa', i)}.\n\n{sentence('swa', i + 1)}.") for i in range(30)]
    _put(root, "mono/swh_Latn/train.jsonl", swahili + swahili[:5])
    latin = json.dumps(dict(text="Добар дан"), ensure_ascii=False).encode("cp1251")
    both = [dict(text=f"{serbian(i)}. {serbian(i + 2)}.") for i in range(30)]
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in both).encode()
    _put(root, "mono/srp/train.jsonl.bz2", lines + latin + b"\n")
    _put(root, "mono/tagged.jsonl", [dict(text=sentence("fra", 1), lang="fr"), dict(text="Of no language", lang="xx")])
    _put(root, "mono/fra_Latn/utf16.jsonl", json.dumps(dict(text=sentence("fra", 2))).encode("utf-16"))
    _put(root, "mono/notes/train.jsonl", [dict(text="Which language is this?")])

    code = [dict(text=f"def carry_{i}(basket):\n\treturn basket + {i}\n", language="Python") for i in range(12)]
    _put(root, "code/stack-00001.jsonl.gz", code + [code[0], dict(text=None)])
    _put(root, "code/stack-00002.jsonl.gz", code)
    _cut(root / "code/stack-00002.jsonl.gz")
    _put(root, "code/stack-00003.jsonl.gz", [dict(content="text is missing")])
    papers = [dict(text=f"We show that {sentence('eng', i)}.\n\nSee Table {i}.") for i in range(12)]
    _put(root, "code/peS2o/00001.jsonl.gz", papers)

    books = root / "books" / "gutenberg"
    books.mkdir(parents=True)
    chapters = ["\n".join(f"{sentence('eng', i + k)}." for k in range(20)) for i in range(12)]
    pq.write_table(pa.table(dict(text=[*chapters, chapters[0]])), books / "1.parquet")
    pq.write_table(pa.table(dict(text=[1, 2])), books / "numbers.parquet")


def _write_moses(folder: pathlib.Path) -> None:
    def write_zip(name, **sides):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for suffix, lines in sides.items():
                archive.writestr(zipfile.ZipInfo(f"{name}.{suffix}"), b"".join(line + b"\n" for line in lines))

    folder.mkdir()
    pairs = [(deu.encode(), eng.encode()) for deu, eng in german_english("moses")]
    pairs += [("Bäcker".encode("latin-1"), b"baker"), (b"", b"no other side")]
    deu, eng = zip(*pairs, strict=True)
    write_zip("Tatoeba.en-de", en=eng, de=deu)
    write_zip("uneven.en-fr", en=[b"one", b"two", b"three"], fr=[b"un", b"deux"])
    write_zip("cut.en-fr", en=eng, fr=deu)
    _cut(folder / "cut.en-fr.zip")


def _write_memories(folder: pathlib.Path) -> None:
    def memory(units):
        body = "\n".join(
            "<tu>" + "".join(f'<tuv xml:lang="{lang}"><seg>{text}</seg></tuv>' for lang, text in unit.items()) + "</tu>"
            for unit in units
        )
        head = '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header srclang="en"/><body>\n'
        return f"{head}{body}\n</body></tmx>\n"

    units = [dict(en=sentence("eng", i), de=sentence("deu", i), sr=serbian(i)) for i in THREE_SIDES]
    folder.mkdir()
    (folder / "memory.tmx").write_text(memory(units), "utf-8")
    (folder / "cut.tmx").write_text(memory(units)[:1500], "utf-8")
    (folder / "latin.tmx").write_text(memory([dict(en="baker", de="Bäcker")]), "latin-1")


def _write_table(folder: pathlib.Path) -> None:
    codes = dict(eng_Latn="eng", deu_Latn="deu", srp_Cyrl="srp", srp_Latn="srp_Latn", qq="swa")
    for language, code in codes.items():
        rows = [f"{100 + i}\tgeography\t{sentence(code, i)}" for i in range(*GERMAN_ENGLISH["table"])]
        if language == "deu_Latn":
            rows.insert(5, "7\tno text")
        content = "\n".join(["index_id\tcategory\ttext", *rows]).encode()
        if language == "srp_Latn":
            content += "\n999\ttravel\tkuća\n".encode("iso8859-2")
        _put(folder, f"{language}/train.tsv", content)
    _put(folder, "fra_Latn/train.tsv", f"number\twords\n1\t{sentence('fra', 1)}\n".encode())


def _write_translations(folder: pathlib.Path) -> None:
    from test_corpus_tfds import prepare  # which needs tensorflow_datasets

    folder.mkdir()
    prepare(folder, "wmt")
    _cut(folder / "tiny/wmt/1.2.0/tiny-test.tfrecord-00001-of-00002", 0.7)
