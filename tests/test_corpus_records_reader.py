"""Parquet files and JSON lines are read whole in every layout; what is damaged costs itself only, and is named."""

import bz2
import gzip
import io
import json
import lzma
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from emma_jax.corpus import codes, source
from emma_jax.corpus.readers import json_lines, mala_code_reasoning, parquet_rows, records
from emma_jax.corpus.statistics import Report

PAIR = dict(src_text="Guten Tag", tgt_text="Hyvää päivää", src_lang="deu_Latn", tgt_lang="fin_Latn")
COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def to_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pa.Table):
        pq.write_table(content, path, row_group_size=1000)
    else:
        suffix = next((suffix for suffix in COMPRESS if suffix and name.endswith(suffix)), "")
        path.write_bytes(COMPRESS[suffix](content if isinstance(content, bytes) else to_lines(content)))
    return path


def read_all(path, reader=records, **fields):
    """The rows, the report and the parts of a source."""
    found = reader.parts(source.Source("corpus", "records", str(path), "CC0", **fields))
    report, rows = Report(), []
    for part in found:
        for batch in reader.read(part, report):
            batch.validate(full=True)
            assert batch.schema in (source.PAIRS, source.DOCUMENTS)
            assert 0 < len(batch) <= source.MAX_BATCH_ROWS and batch.nbytes <= source.MAX_BATCH_BYTES
            rows += batch.to_pylist()
    assert report.counts["read"]["kept"] == len(rows)
    return rows, report, found


def counts(report):
    return {reason: number for reason, number in report.counts["read"].items() if reason != "kept" and number}


# Layouts and languages.


@pytest.mark.parametrize("name", ["1.parquet", *(f"1.jsonl{suffix}" for suffix in COMPRESS), "1.json.gz"])
def test_layouts_in_every_format(tmp_path, name):
    pairs = [PAIR | dict(src_text=f"{number}\n\0", extra=number) for number in range(3000)]
    renamed = [{key.replace("src", "source").replace("tgt", "target"): row[key] for key in PAIR} for row in pairs]
    documents = [dict(text="日本語", language="ja", meta=dict(a=[1])), dict(text="", language="en")]
    for folder, rows in (("mala", pairs), ("opus", renamed), ("mono", documents)):
        put(tmp_path, f"{folder}/{name}", pa.Table.from_pylist(rows) if name.endswith("parquet") else rows)
    expected = [{key: row[key] for key in PAIR} for row in pairs]
    assert read_all(tmp_path / "mala")[0] == read_all(tmp_path / "opus")[0] == expected
    assert read_all(tmp_path / "mono")[0] == [dict(text="日本語", lang="ja"), dict(text="", lang="en")]


def test_languages_in_names(tmp_path):
    texts = [dict(text="a")]
    sides = [dict(src_text="a", tgt_text="b")]
    put(tmp_path, "mono/swh_Latn/train.jsonl", texts)
    put(tmp_path, "mono/swh_Latn/dev/part-00001.jsonl.gz", texts)
    put(tmp_path, "mono/data/pt_BR/train-00000-of-00012.parquet", pa.Table.from_pylist(texts))
    put(tmp_path, "mono/de.jsonl", texts)
    rows, _, found = read_all(tmp_path / "mono")
    assert [row["lang"] for row in rows] == ["pt_BR", "de", "swh_Latn", "swh_Latn"]
    assert [part.languages for part in found] == [{"por_Latn"}, {"deu_Latn"}, {"swh_Latn"}, {"swh_Latn"}]
    put(tmp_path, "pairs/eng_Latn-fra_Latn/train.jsonl", sides)
    put(tmp_path, "pairs/en-de.parquet", pa.Table.from_pylist(sides))
    rows, _, found = read_all(tmp_path / "pairs")
    assert [(row["src_lang"], row["tgt_lang"]) for row in rows] == [("en", "de"), ("eng_Latn", "fra_Latn")]
    assert [part.languages >= {"eng_Latn", other} for part, other in zip(found, ["deu_Latn", "fra_Latn"], strict=True)]


NAMES = {
    "swh_Latn": "swh_Latn", "eng/war": "eng", "eng/new": "eng", "eng/cut": "eng", "eng/2020/old": "eng", "war": "war",
    "eng/en-de": "eng", "eng/deu_Latn": "deu_Latn", "swh_Latn/fra/1": "swh_Latn", "eng/fra/new": "fra",
    "web/new": "new",
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("name", NAMES)
def test_a_full_code_goes_before_folders_and_folders_before_the_files_own_name(tmp_path, name, suffix):
    put(tmp_path, f"{name}{suffix}", pa.table(dict(text=["a"])) if suffix == ".parquet" else [dict(text="a")])
    rows, _, (part,) = read_all(tmp_path)
    assert rows == [dict(text="a", lang=NAMES[name])] and codes.normalise(NAMES[name]) in part.languages


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("eng_Latn-fra_Latn/new-old.jsonl", ("eng_Latn", "fra_Latn")),
        ("en-fr/new-old.jsonl", ("en", "fr")),
        ("en-fr/eng_Latn-deu_Latn.jsonl", ("eng_Latn", "deu_Latn")),
        ("web/en-de.jsonl", ("en", "de")),
        ("en-de/dev-xx.jsonl", ("en", "de")),
        ("ze_en-zh/train.jsonl", ("ze_en", "zh")),
    ],
)
def test_a_pairs_names_count_in_the_same_order(tmp_path, name, pair):
    put(tmp_path, name, [dict(src_text="a", tgt_text="b")])
    assert read_all(tmp_path)[0] == [dict(src_text="a", tgt_text="b", src_lang=pair[0], tgt_lang=pair[1])]


def test_columns_go_before_config_and_config_before_names(tmp_path):
    put(tmp_path, "swh_Latn/1.jsonl", [dict(text="a", lang="fr"), dict(text="b", lang=None), dict(text="c")])
    assert [row["lang"] for row in read_all(tmp_path)[0]] == ["fr", "swh_Latn", "swh_Latn"]
    rows, _, (part,) = read_all(tmp_path, languages="sw")
    assert [row["lang"] for row in rows] == ["fr", "sw", "sw"] and part.languages == {"swa_Latn"}
    put(tmp_path, "swh_Latn/1.jsonl", [dict(body="a", tongue="fr", text="no", lang="no")])
    assert read_all(tmp_path, columns="text=body lang=tongue")[0] == [dict(text="a", lang="fr")]
    put(tmp_path, "swh_Latn/1.jsonl", [dict(src_text="a", tgt_text="b")])
    row = dict(src_text="a", tgt_text="b", src_lang="pt_BR", tgt_lang="zh")
    assert read_all(tmp_path, languages="pt_BR-zh")[0] == [row]
    put(tmp_path, "swh_Latn/1.jsonl", [dict(src_text="a", tgt_text="b", tgt_lang="fi")])
    assert read_all(tmp_path, languages="pt_BR-zh")[0] == [row | dict(tgt_lang="fi")]


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_mistakes_are_named_before_anything_is_read(tmp_path, name):
    def write(row):
        put(tmp_path, name, pa.Table.from_pylist([row]) if name.endswith("parquet") else [row])

    write(dict(text="a"))
    with pytest.raises(
        ValueError, match="'train.* does not say its language, and nor does its name; name it .* languages='de'"
    ):
        read_all(tmp_path)
    write(dict(src_text="a", tgt_text="b", src_lang="de"))
    for spelling in ("", "de"):
        with pytest.raises(ValueError, match="does not say its languages; name them in the source: languages='en-de'"):
            read_all(tmp_path, languages=spelling)
    write(dict(body="a", id=3))
    with pytest.raises(ValueError, match=r"has the columns \['body', 'id'\], and not src_text and tgt_text or"):
        read_all(tmp_path, languages="de")
    with pytest.raises(ValueError, match="'txt' is none of those that can be named; is text meant"):
        read_all(tmp_path, languages="de", columns="txt=body")
    assert read_all(tmp_path, languages="de", columns="text=body")[0] == [dict(text="a", lang="de")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("frx/a", r"'frx' is no language code \(is fra meant\?\)"),
        ("english/a", r"'english' is no language code \(is eng meant\?\)"),
        ("qqq/2020/a", "'qqq' is no language code: for private use"),
        ("xyz_Latn/a", "'xyz_Latn' is no language code"),
        ("data/frx_Latn", r"'frx_Latn' is no language code \(is fra_Latn meant\?\)"),
        ("english/town/eng_Ltan/a", "'eng_Ltan' is no language code: of a script that is not known"),
    ],
)
def test_a_name_that_is_no_language_is_named(tmp_path, name, reason):
    put(tmp_path, f"{name}.jsonl", [dict(text="a")])
    remedy = "; rename it, or name the language in the source: languages='de' or columns='lang=NAME'"
    with pytest.raises(ValueError, match=f"'{name}.jsonl' does not say its language, and {reason}.*{remedy}"):
        read_all(tmp_path)
    put(tmp_path, "deu/a.jsonl", [dict(text="b")])
    rows, report, _ = read_all(tmp_path)
    assert rows == [dict(text="b", lang="deu")] and remedy in report.bad_files[f"corpus/{name}.jsonl"]


def test_one_file_of_another_kind_is_named_and_the_rest_read(tmp_path):
    put(tmp_path, "deu_Latn/1.jsonl", [dict(text="a")])
    put(tmp_path, "notes/1.jsonl", [dict(text="a")])
    put(tmp_path, "other/1.jsonl", [dict(body="a", lang="de")])
    rows, report, _ = read_all(tmp_path)
    assert rows == [dict(text="a", lang="deu_Latn")]
    assert "does not say its language" in report.bad_files["corpus/notes/1.jsonl"]
    assert "has the columns ['body', 'lang'], and not" in report.bad_files["corpus/other/1.jsonl"]
    assert not counts(report)


def test_collections(tmp_path):
    put(tmp_path, "python/1.parquet", pa.table(dict(text=["x = 1"], lang=["Python"])))
    put(tmp_path, "data/web-00003.jsonl.gz", [dict(text="y")])
    put(tmp_path, "train-00000-of-00002.jsonl", [dict(text="z")])
    rows, _, found = read_all(tmp_path, kind="code")
    assert rows == [dict(text=text, lang="") for text in ("y", "x = 1", "z")]
    assert [part.collection for part in found] == ["code.web", "code.python", "code.corpus"]
    rows, _, found = read_all(tmp_path, kind="book", languages="en")
    assert [row["lang"] for row in rows] == ["en", "Python", "en"]
    assert found[0].collection == "book.web" and found[0].languages == {"eng_Latn"}


def test_languages_of_collections_are_in_names(tmp_path):
    for name in ("eng/a", "eng/b", "am/new", "poems/swh_Latn/1", "deu_Latn/gutenberg/2020/c", "fra", "letters-001"):
        put(tmp_path, f"{name}.jsonl", [dict(text=name)])
    rows, _, found = read_all(tmp_path, kind="book")
    expected = {
        "am/new": ("amh_Ethi", "book.corpus"),
        "deu_Latn/gutenberg/2020/c": ("deu_Latn", "book.gutenberg"),
        "eng/a": ("eng_Latn", "book.corpus"),
        "eng/b": ("eng_Latn", "book.corpus"),
        "fra": ("fra_Latn", "book.corpus"),
        "letters-001": ("", "book.letters"),
        "poems/swh_Latn/1": ("swh_Latn", "book.poems"),
    }
    assert {row["text"]: row["lang"] for row in rows} == {name: lang for name, (lang, _) in expected.items()}
    assert [part.collection for part in found] == [collection for _, collection in expected.values()]
    assert [part.languages for part in found] == [{lang} - {""} for lang, _ in expected.values()]
    rows, _, found = read_all(tmp_path, kind="book", languages="sw")
    assert {row["lang"] for row in rows} == {"sw"} and found[0].collection == "book.corpus"


def test_programming_languages_are_no_languages(tmp_path):
    put(tmp_path, "lua/bat.jsonl", [dict(text="end")])  # Luba-Lulua, and the Baltic languages
    put(tmp_path, "notebooks/eng_Latn/1.jsonl", [dict(text="x = 1")])
    rows, _, found = read_all(tmp_path, kind="code")
    assert rows == [dict(text="end", lang=""), dict(text="x = 1", lang="eng_Latn")]
    assert [part.collection for part in found] == ["code.lua", "code.notebooks"]


def test_mala_code_reasoning(tmp_path):
    put(tmp_path, "stack/0001.jsonl.gz", [dict(text="int i;", lang="C")])
    put(tmp_path, "peS2o-00002.jsonl.gz", [dict(text="We show", id=3)])
    put(tmp_path, "v2/code-instruct/a.jsonl.gz", [
        dict(instruction="Do", input="this", output="Done"), dict(instruction="Do", input="", output="Done"),
        dict(instruction="Do", output="Done"), dict(instruction="Do"), dict(output="Done"),
    ])  # fmt: skip
    assert read_all(put(tmp_path, "new/arxiv/war.jsonl.gz", [dict(text="a")]).parents[2], mala_code_reasoning)[0][
        0
    ] == (dict(text="a", lang=""))
    (tmp_path / "new/arxiv/war.jsonl.gz").unlink()
    put(tmp_path, "reason-instruct.jsonl.gz", [dict(prompt="Why?", response="So")])
    rows, report, found = read_all(tmp_path, mala_code_reasoning)
    assert [(part.name.split(".")[0], part.collection) for part in found] == [
        ("peS2o-00002", "paper.peS2o"),
        ("reason-instruct", "instruction.reason-instruct"),
        ("stack/0001", "code.stack"),
        ("v2/code-instruct/a", "instruction.code-instruct"),
    ]
    texts = ["We show", "Why?\n\nSo", "int i;", "Do\n\nthis\n\nDone", "Do\n\nDone", "Do\n\nDone"]
    assert rows == [dict(text=text, lang="") for text in texts]
    assert counts(report) == {"wrong_columns": 2}
    put(tmp_path, "novels.jsonl.gz", [dict(text="Once")])
    with pytest.raises(ValueError, match="1 files .* such as 'novels.jsonl.gz'; read them with the reader 'records'"):
        read_all(tmp_path, mala_code_reasoning)


# Damaged records.

GOOD = b'{"lang": "de", "text": "gut", "n": [1, {"text": 2}]}'
LINES = {
    b'{"text": "a", "lang": "de"': "bad_json",
    b'["text", "lang"]': "bad_json",
    b'"text"': "bad_json",
    b"3": "bad_json",
    b"null": "bad_json",
    b"\0": "bad_json",
    b'{"text": "a\0", "lang": "de"}': "bad_json",
    b'{"text": "a\tb", "lang": "de"}': "bad_json",
    GOOD + GOOD: "bad_json",
    GOOD + b" x": "bad_json",
    b"\x0b": "bad_json",
    b'{"text": "a", "lang": "de", "n": %s}' % (b"9" * 5000): "a",
    b'{"text": 3, "lang": "de"}': "wrong_columns",
    b'{"text": {"text": "a"}, "lang": "de"}': "wrong_columns",
    b'{"text": ["a"], "lang": "de"}': "wrong_columns",
    b'{"text": null, "lang": "de"}': "wrong_columns",
    b'{"lang": "de"}': "wrong_columns",
    b'{"text": "a", "lang": 3}': "wrong_columns",
    b'{"text": "a", "lang": null}': "wrong_columns",
    b"{}": "wrong_columns",
    b'{"text": "a", "text": 3, "lang": "de"}': "wrong_columns",
    'Füße {"text": "ü"}'.encode("latin-1"): "undecodable",
    '{"text": "ü", "lang": "de"}'.encode("latin-1"): "undecodable",
    '{"text": "a", "lang": "de", "n": "ü"}'.encode("latin-1"): "undecodable",
    b'{"text": "\xed\xa0\x80", "lang": "de"}': "undecodable",
    b'{"text": "a \\ud800", "lang": "de"}': "undecodable",
    b'{"text": "\\ude00\\ud83d", "lang": "de"}': "undecodable",
    b'{"text": "a", "lang": "\\udfff"}': "undecodable",
    b"": None,
    b" \t\r": None,
    GOOD: "gut",
    GOOD + b"\r": "gut",
    b'{"lang": "de", "text": "\\ud83d\\ude00\\u0000", "n": NaN}': "😀\0",
    b'{"text": "a", "text": "b", "lang": "de"}': "b",
    b'{"text": "a", "n": "\\ud800", "lang": "de"}': "a",
    b'{"text": "a", "n": %s, "lang": "de"}' % (b"[" * 100000 + b"]" * 100000): "a",
}
REASONS = ("bad_json", "wrong_columns", "undecodable")


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line[:30]))
def test_each_line_alone_and_among_others(tmp_path, line):
    expected = [LINES[line]] if LINES[line] and LINES[line] not in REASONS else []
    fault = [LINES[line]] if LINES[line] in REASONS else []
    for before in ([GOOD], [GOOD, b"x"], [GOOD, b"", GOOD[:-1]]):
        rows, report, _ = read_all(put(tmp_path, "1.jsonl", b"\n".join([*before, line, GOOD, b""])))
        assert rows == [dict(text=text, lang="de") for text in ["gut", *expected, "gut"]]
        faults = fault + ["bad_json"] * (len(before) > 1)
        assert counts(report) == {reason: faults.count(reason) for reason in faults}
        assert not report.bad_files


def test_both_ways_of_parsing_agree():
    rng = random.Random(0)
    schema = pa.schema([("text", pa.string()), ("lang", pa.string())])
    accepted = 0
    for _ in range(400):
        some = [rng.choice([*LINES, GOOD, GOOD, GOOD, GOOD]) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.5:  # a byte changes
            place = rng.randrange(len(some[0]) + 1)
            some[0] = some[0][:place] + bytes([rng.choice(b'"\\{}[]:,ux0 \n\x00\xc3')]) + some[0][place + 1 :]
        block = b"\n".join(some)
        at_once = json_lines._parse(block, schema)
        if at_once is not None:
            assert at_once.equals(json_lines._parse_lines(block, schema)), block
            accepted += len(at_once)
    assert accepted > 50


def test_file_of_mostly_bad_records_is_named(tmp_path):
    path = put(tmp_path, "1.jsonl", b"\n".join([GOOD, b"x", "ü".encode("latin-1"), b"{}", GOOD]))
    rows, report, _ = read_all(path)
    assert len(rows) == 2
    assert report.bad_files == {"corpus/1.jsonl": "3 of 5 records could not be read (first: record 2, bad_json)"}
    path = put(tmp_path, "1.jsonl", b"\n".join([GOOD, b"x", b"{}", GOOD]))
    assert read_all(path)[1].bad_files == {}


def test_wrong_encodings(tmp_path):
    text = to_lines([dict(text=text, lang="fr") for text in ("été", "hiver", "août", "mai")]).decode()
    rows, report, _ = read_all(put(tmp_path, "1.jsonl", text.encode("latin-1")))
    assert [row["text"] for row in rows] == ["hiver", "mai"] and counts(report) == {"undecodable": 2}
    latin = put(tmp_path, "1.jsonl", "\n".join(text.splitlines()[::2]).encode("latin-1"))
    assert read_all(latin)[1].bad_files == {
        "corpus/1.jsonl": "2 of 2 records could not be read (first: record 1, undecodable); they are not in UTF-8: "
        "convert the file, as by iconv -f LATIN1 -t UTF-8"
    }
    rows, report, _ = read_all(put(tmp_path, "1.jsonl", text.encode("utf-8-sig")))
    assert len(rows) == 4 and not counts(report)
    for encoding in ("utf-16", "utf-16-be"):
        content = text.encode(encoding) if encoding == "utf-16" else ("\ufeff" + text).encode(encoding)
        rows, report, _ = read_all(put(tmp_path, "1.jsonl", content))
        assert (rows, report.bad_files) == ([], {"corpus/1.jsonl": "is in UTF-16; it must be in UTF-8"})


def test_long_and_too_long_records(tmp_path):
    long, too_long = "x" * (source.MAX_RECORD_BYTES - 100), "x" * (source.MAX_RECORD_BYTES + 1)
    rows = [dict(text=text, lang="de") for text in ("a", long, too_long, long)]
    for path in (
        put(tmp_path, "1.jsonl", rows),
        put(tmp_path, "1.parquet", pa.Table.from_pylist(rows)),
    ):
        found, report, _ = read_all(path)
        assert [len(row["text"]) for row in found] == [1, len(long), len(long)]
        assert counts(report) == {"too_large": 1} and not report.bad_files


# Damaged files.


@pytest.mark.parametrize("suffix", COMPRESS)
def test_cut_json_lines(tmp_path, suffix):
    rows = [dict(text=f"{number} {random.Random(number).random()}", lang="de") for number in range(20000)]
    path = put(tmp_path, f"1.jsonl{suffix}", rows)
    whole = path.read_bytes()
    for length in (len(whole) - 3, len(whole) // 2, 10, 0):
        path.write_bytes(whole[:length])
        found, report, _ = read_all(path, languages="de")
        assert found == rows[: len(found)]
        if suffix:
            reason = "is cut short" if length else f"is empty, and a {suffix} file never is"
            assert report.bad_files == {f"corpus/1.jsonl{suffix}": reason}
        elif length:
            assert counts(report) == {"bad_json": 1}
        if suffix in ("", ".gz", ".xz") and length > 10:
            assert len(found) > 0.8 * len(rows) * length / len(whole)


def test_files_that_are_something_else(tmp_path):
    text = b"This is no JSON.\n" * 100
    put(tmp_path, "1.parquet", text)
    put(tmp_path, "2.parquet", b"")
    put(tmp_path, "3.parquet", b"PAR1" + bytes(100) + b"PAR1")
    put(tmp_path, "4.jsonl", text)
    put(tmp_path, "5.jsonl", b"")
    put(tmp_path, "6.jsonl", json.dumps([dict(text="a")] * 3, indent=2).encode())
    (tmp_path / "7.jsonl.gz").write_bytes(text)
    put(tmp_path, "8.jsonl", bytes(1000))
    rows, report, found = read_all(tmp_path)
    assert rows == [] and len(found) == 8
    assert {name[7]: reason[:24] for name, reason in report.bad_files.items()} == {
        "1": "is damaged: Parquet magi", "2": "is damaged: Parquet file", "3": "is damaged: Couldn't des",
        "4": "100 of 100 records could", "6": "11 of 11 records could n", "7": "is damaged: zlib inflate",
        "8": "1 of 1 records could not",
    }  # fmt: skip
    assert not any("\n" in reason or str(tmp_path) in reason for reason in report.bad_files.values())


def test_cut_and_corrupted_parquet(tmp_path):
    rows = [PAIR | dict(src_text=f"{number} {random.Random(number).random()}") for number in range(5000)]
    path = put(tmp_path, "1.parquet", pa.Table.from_pylist(rows))
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 7):
        path.write_bytes(whole[:length])
        found, report, _ = read_all(path)
        assert found == [] and "is damaged: Parquet" in report.bad_files["corpus/1.parquet"]
    group = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(3).column(0)
    start = group.dictionary_page_offset
    path.write_bytes(whole[:start] + b"\xff" * 500 + whole[start + 500 :])
    found, report, _ = read_all(path)
    assert found == rows[:3000] and list(report.bad_files) == ["corpus/1.parquet"]
    rng = random.Random(0)
    for _ in range(100):  # whatever is read, it ends, and gives text
        turned = bytearray(whole)
        for _ in range(3):
            turned[rng.choice([rng.randrange(len(whole)), len(whole) - 1 - rng.randrange(2000)])] ^= 1 << rng.randrange(
                8
            )
        path.write_bytes(turned)
        try:
            read_all(path)
        except ValueError as error:
            assert "columns" in str(error) or "language" in str(error)


def test_columns_of_parquet(tmp_path):
    texts, bad = ["日本", None, "a\0b"], ["ü".encode(), b"\xff", b"c"]
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        path = put(tmp_path, "de.parquet", pa.table(dict(text=pa.array(texts).cast(kind), n=[1, 2, 3])))
        rows, report, _ = read_all(path)
        assert [row["text"] for row in rows] == ["日本", "a\0b"] and counts(report) == {"wrong_columns": 1}
    for kind in (pa.binary(), pa.large_binary()):
        rows, report, _ = read_all(put(tmp_path, "de.parquet", pa.table(dict(text=pa.array(bad, kind)))))
        assert [row["text"] for row in rows] == ["ü", "c"] and counts(report) == {"undecodable": 1}
    # Nothing looks at the encoding of strings when they are written.
    lying = pa.Array.from_buffers(pa.string(), 3, pa.array(bad, pa.binary()).buffers())
    rows, report, _ = read_all(put(tmp_path, "de.parquet", pa.table(dict(text=lying))))
    assert [row["text"] for row in rows] == ["ü", "c"] and counts(report) == {"undecodable": 1}
    rows, report, _ = read_all(put(tmp_path, "de.parquet", pa.table(dict(text=pa.nulls(3)))))
    assert rows == [] and "3 of 3 records" in report.bad_files["corpus/de.parquet"]
    for values, kind in (([1, 2], "int64"), ([["a"], ["b"]], "list"), ([dict(a=1)], "struct")):
        rows, report, _ = read_all(put(tmp_path, "de.parquet", pa.table(dict(text=values))))
        assert rows == [] and f"has {kind}" in report.bad_files["corpus/de.parquet"]


def test_shares_of_a_parquet_file_are_the_file(tmp_path, monkeypatch):
    rows = [PAIR | dict(src_text=str(number)) for number in range(7500)]
    path = put(tmp_path, "1.parquet", pa.Table.from_pylist(rows))
    for num_shares in (1, 2, 3, 8, 12):
        monkeypatch.setattr(records, "SHARE_BYTES", path.stat().st_size / num_shares)
        found, report, parts = read_all(path)
        assert found == rows and len(parts) == num_shares and len({part.name for part in parts}) == num_shares
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert len(read_all(path)[1].bad_files) == 1


def test_parquet_bombs_end(tmp_path):
    # One text in a dictionary, and a page of one byte over and over.
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000), ["x" * 900_000])
    pages = pa.table(dict(text=["x" * 900_000] * 100))
    for table, options in (
        (pa.table(dict(text=text)), dict(compression="none", store_schema=False)),
        (pages, dict(compression="zstd", use_dictionary=False)),
    ):
        pq.write_table(table, tmp_path / "de.parquet", **options)
        rows, report, _ = read_all(tmp_path)
        assert report.bad_files == {"corpus/de.parquet": "expands to more than 200 times its size"}
        assert len(rows) < 200


MEASURE = """
import re, sys
from emma_jax.corpus import source
from emma_jax.corpus.readers import records
from emma_jax.corpus.statistics import Report

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

before, report, num_rows = peak(), Report(), 0
for part in records.parts(source.Source("corpus", "records", sys.argv[1], "CC0", languages="de")):
    for batch in records.read(part, report):
        num_rows += len(batch)
print(num_rows, report.counts["read"]["too_large"], peak() - before, *report.bad_files.values())
"""


def measure(path):
    """How many records were read and how many were too large, the MiB that this took, and what is wrong with the files.

    In a process of its own, for that is what has a peak of memory.
    """
    result = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    *numbers, reason = (result.stdout.strip() + " ").split(" ", 3)
    return [*map(int, numbers), reason.strip()]


def test_memory_is_bounded_for_a_line_of_100_mb(tmp_path):
    # With other texts around it, so that it is no bomb.
    noise = to_lines([dict(text=random.Random(0).randbytes(500_000).hex())])
    with gzip.open(tmp_path / "1.jsonl.gz", "wb", 1) as out:
        out.write(noise + b'{"text": "')
        for _ in range(100):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n' + noise)
    num_rows, num_too_large, num_mib, reason = measure(tmp_path)
    assert (num_rows, num_too_large, reason) == (2, 1, "")
    assert num_mib < 130


def test_memory_is_bounded_for_a_bomb(tmp_path):
    (tmp_path / "1.jsonl.gz").write_bytes(gzip.compress(b'{"text": "%s"}\n' % (b"x" * 1000) * 1000) * 100)
    num_rows, _, num_mib, reason = measure(tmp_path)
    assert reason == "expands to more than 200 times its size"
    assert 50_000 < num_rows < 70_000 and num_mib < 130


def test_memory_is_bounded_for_a_large_row_group(tmp_path):
    rng = random.Random(0)
    words = [f"{rng.getrandbits(40):x} " for _ in range(1000)]
    texts = pa.array(["".join(rng.choices(words, k=1000)) for _ in range(1000)] * 26)  # 290 MB
    pq.write_table(pa.table(dict(text=texts)), tmp_path / "1.parquet", row_group_size=1 << 20, use_dictionary=False)
    assert pq.ParquetFile(tmp_path / "1.parquet").metadata.num_row_groups == 1
    num_rows, _, num_mib, reason = measure(tmp_path)
    assert (num_rows, reason) == (26000, "") and num_mib < 220


@pytest.mark.parametrize(
    ("num_short", "num_bytes", "num_repeats", "bound"), [(0, 8 << 20, 50, 180), (20000, 300_000, 700, 200)]
)
def test_memory_is_bounded_for_a_text_that_a_dictionary_repeats(tmp_path, num_short, num_bytes, num_repeats, bound):
    # From the first row; and after many short texts, by which steps have grown as far as they do.
    short = [f"{number:050}" for number in range(num_short)]
    places = [*range(num_short), *[num_short] * num_repeats, *range(num_short)]
    text = pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), [*short, "x" * num_bytes])
    options = dict(compression="none", store_schema=False, dictionary_pagesize_limit=1 << 30)
    pq.write_table(pa.table(dict(text=text)), tmp_path / "1.parquet", **options)
    num_rows, _, num_mib, reason = measure(tmp_path)
    assert (num_rows, reason) == (len(places), "") and num_mib < bound


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["b.csv", "a.txt"],
            "has no file that the reader 'records' reads: 2 files in '.*', such as 'a.txt'; it reads .parquet, .jsonl, "
            ".ndjson, .json, also compressed$",
        ),
        ([], "is empty: there is no .parquet or .jsonl or .ndjson or .json file in"),
    ],
)
def test_nothing_to_read_is_one_sentence(tmp_path, names, message):
    for name in names:
        put(tmp_path, name, b"a")
    with pytest.raises(ValueError, match=f"^source 'corpus' {message}"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("path", "source 'small' has no path; name a folder, a file, gs:// or package:NAME"),
        ("licence", "source 'small' has no licence; name it, as in 'CC0' or 'unknown'"),
    ],
)
def test_source_without_path_or_licence_is_refused(key, message):
    for empty in ("", " "):
        section = dict(reader="records", path="data", licence="CC0") | {key: empty}
        with pytest.raises(ValueError, match=f"^{message}$"):
            source.from_config(dict(small=section), ["records"])


def test_suffixes():
    assert {".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".jsonl.bz2", ".jsonl.xz"} < set(json_lines.SUFFIXES)
    assert parquet_rows.SUFFIXES == (".parquet",)
