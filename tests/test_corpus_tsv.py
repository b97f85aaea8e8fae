"""Pairs in columns: each public layout is known from its first lines; a line that does not fit costs itself only."""

import gzip
import tracemalloc
import zipfile

import pytest

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import tsv
from emma_jax.corpus.statistics import Report

TATOEBA = (
    '1276\tLet\'s try something.\t77\tLass uns etwas versuchen!\n1277\tI have to "sleep".\t78\tIch muss schlafen.\n'
)
CHALLENGE = "deu\teng\tGuten Tag.\tHello.\ngsw\teng\tGrüezi.\tHello.\nxx\teng\tWer?\tWho?\n"
MANY_THINGS = "Go.\tGeh.\tCC-BY 2.0 (France) #1 #2\nHi!\tHallo!\tCC-BY 2.0 (France) #3 #4\n"
NLLB = "Hello\tBonjour\t1.25\tcrawl-data\nYes\tOui\t1.06\tcrawl-data\n"
MALA = "id\tsource_lang\ttarget_lang\tsource_text\ttarget_text\n1\tdeu_Latn\teng_Latn\tHaus\thouse\n"


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def make_source(path, **fields):
    return source_lib.Source(name="web", reader="tsv", path=str(path), licence="CC BY", **fields)


def read_all(path, **fields):
    """Rows and report of all parts of a source."""
    rows, report = [], Report()
    for part in tsv.parts(make_source(path, **fields)):
        for batch in tsv.read(part, report):
            assert batch.schema.equals(source_lib.PAIRS) and len(batch) <= source_lib.MAX_BATCH_ROWS
            rows += [tuple(row.values()) for row in batch.to_pylist()]
    return rows, report


@pytest.mark.parametrize(
    "name, content, languages, expected",
    [
        ("English-German.tsv", TATOEBA, "en-de", ('I have to "sleep".', "Ich muss schlafen.", "en", "de")),
        ("test.txt", CHALLENGE, "", ("Grüezi.", "Hello.", "gsw", "eng")),
        ("eng-deu/deu.txt", MANY_THINGS, "", ("Hi!", "Hallo!", "eng", "deu")),
        ("eng_Latn-fra_Latn", NLLB, "", ("Yes", "Oui", "eng_Latn", "fra_Latn")),
        ("train.tsv", MALA, "", ("Haus", "house", "deu_Latn", "eng_Latn")),
        ("tr-en.tsv", "Ev\thouse\nSu\twater\n", "", ("Su", "water", "tr", "en")),
    ],
    ids=["tatoeba", "challenge", "many_things", "nllb", "header", "plain"],
)  # fmt: skip
@pytest.mark.parametrize("compressed", [True, False])
def test_layouts_of_the_field(tmp_path, name, content, languages, expected, compressed):
    if compressed or "." not in name:
        name, content = f"{name}.gz", gzip.compress(content.encode())
    put(tmp_path / name, content)
    rows, report = read_all(tmp_path, languages=languages)
    assert expected in rows
    assert report.counts["read"] == {"kept": len(rows)} and not report.bad_files


def test_names_of_columns_are_those_of_the_source(tmp_path):
    put(tmp_path / "train.tsv", "en\tscore\tfi\nhouse\t0.5\ttalo\n")
    rows, _ = read_all(tmp_path, languages="fi-en", columns="src_text=fi tgt_text=en")
    assert rows == [("talo", "house", "fi", "en")]


def test_parts_announce_languages_and_leave_out_what_is_no_text(tmp_path):
    for name in ("a/en-de.tsv", "eng_Latn-fra_Latn/train.tsv", "README.txt", "_about.txt", "b/LICENSE.txt", "c.tsv"):
        put(tmp_path / name, "a\tb\n")
    assert {part.name: part.languages for part in tsv.parts(make_source(tmp_path))} == {
        "a/en-de.tsv": {"eng_Latn", "deu_Latn"},
        "eng_Latn-fra_Latn/train.tsv": {"eng_Latn", "fra_Latn"},
        "c.tsv": frozenset(),
    }
    with pytest.raises(ValueError, match="is not the name of a pair"):
        tsv.parts(make_source(tmp_path, languages="english"))


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("en-fi/new-old.tsv", ("en", "fi")),
        ("eng_Latn-fra_Latn/en-de/train.tsv", ("eng_Latn", "fra_Latn")),
        ("en-de/v1.en-fr/old-new.txt", ("en", "fr")),
        ("my-set/en-fi.tsv", ("my", "set")),  # Burmese and Sentani
        ("dev-xx/en-fi.tsv", ("en", "fi")),
    ],
)
def test_folders_count_before_the_files_own_name(tmp_path, name, pair):
    put(tmp_path / "in" / name, "house\ttalo\n")
    assert read_all(tmp_path / "in")[0] == [("house", "talo", *pair)]


def test_folder_above_the_source_counts_last(tmp_path):
    put(tmp_path / "my-set" / "en-fi.tsv", "house\ttalo\n")
    assert read_all(tmp_path / "my-set")[0] == [("house", "talo", "en", "fi")]


def test_folder_of_a_source_that_is_one_file(tmp_path):
    put(tmp_path / "en-fi" / "train.tsv", "house\ttalo\n")
    assert read_all(tmp_path / "en-fi" / "train.tsv")[0] == [("house", "talo", "en", "fi")]


def test_zip_of_many_things(tmp_path):
    with zipfile.ZipFile(tmp_path / "deu-eng.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deu.txt", MANY_THINGS)
        archive.writestr("_about.txt", "no\tsentences\tat all")
    rows, report = read_all(tmp_path)
    assert [row[:2] for row in rows] == [("Go.", "Geh."), ("Hi!", "Hallo!")] and not report.bad_files


def test_bad_lines_cost_themselves_only(tmp_path):
    lines = [
        b"one\teins",
        b"two",
        b"three\tdrei\tzuviel\t" + b"\t" * 50,
        b"",
        b"\tleer",
        b"f\xfcnf\tf\xfcnf",
        b"s\0x\tsechs\r",
    ]
    put(tmp_path / "en-de.tsv", b"\n".join([*lines, b"seven\tsieben"]))
    rows, report = read_all(tmp_path)
    assert [row[:2] for row in rows] == [("one", "eins"), ("s\0x", "sechs"), ("seven", "sieben")]
    assert report.counts["read"] == {"kept": 3, "wrong_columns": 2, "empty_side": 1, "undecodable": 1}


def test_byte_order_mark_is_not_in_the_name_of_a_column(tmp_path):
    put(tmp_path / "en-de.tsv", "\ufeffsrc_text\ttgt_text\nhouse\tHaus\n")
    assert read_all(tmp_path)[0] == [("house", "Haus", "en", "de")]


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "is empty"),
        ("one\tuno\n".encode("utf-16"), "is in UTF-16"),
        (b"a line of prose\nand another\n", "lines without a tab"),
        (b"\xff\xfe\xfd\xfc" * 100 + b"\n", "UTF"),
        ("á\té\n".encode("latin-1"), "no text in UTF-8 in its first lines; convert it to UTF-8"),
    ],
)
def test_bad_file_is_named(tmp_path, content, reason):
    put(tmp_path / "en-es.tsv", content)
    put(tmp_path / "good" / "en-es.tsv", "one\tuno\n")
    rows, report = read_all(tmp_path)
    assert rows == [("one", "uno", "en", "es")]
    (found,) = report.bad_files.values()
    assert reason in found


def test_file_of_unknown_languages_is_named_with_the_way_out(tmp_path):
    put(tmp_path / "train.tsv", "one\tuno\n")
    assert "languages='en-de'" in read_all(tmp_path)[1].bad_files["web/train.tsv"]


def test_cut_gzip_keeps_what_stood_before(tmp_path):
    whole = gzip.compress("".join(f"{number}\tword {number * 7919 % 1000}\n" for number in range(100_000)).encode())
    put(tmp_path / "en-es.tsv.gz", whole[: len(whole) // 2])
    rows, report = read_all(tmp_path)
    assert 10_000 < len(rows) < 100_000 and rows[-1][0] == str(len(rows) - 1)
    assert report.bad_files == {"web/en-es.tsv.gz": "is cut short"}


def test_bomb_and_line_of_100_mb_take_no_memory(tmp_path, monkeypatch):
    put(tmp_path / "bomb" / "en-es.tsv.gz", gzip.compress(b"\0" * (100 << 20), 1))
    rows, report = read_all(tmp_path / "bomb")
    assert rows == [] and "expands to more than" in report.bad_files["web/en-es.tsv.gz"]
    monkeypatch.setattr("emma_jax.corpus.streams.MAX_RATIO", 10_000)
    put(
        tmp_path / "long" / "en-es.tsv.gz",
        gzip.compress(b"one\tuno\ntwo\t" + b"x" * (100 << 20) + b"\nthree\ttres\n", 1),
    )
    tracemalloc.start()
    rows, report = read_all(tmp_path / "long")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row[0] for row in rows] == ["one", "three"]
    assert report.counts["read"] == {"kept": 2, "too_large": 1}
    assert peak < 64 << 20


def test_many_short_lines_come_in_bounded_batches(tmp_path):
    put(tmp_path / "en-es.tsv", "a\tb\n" * 200_000)
    rows, report = read_all(tmp_path)
    assert len(rows) == report.counts["read"]["kept"] == 200_000
