"""Line-aligned text: both sides in lock step from files and zips, or nothing; damage costs a line or names the file."""

import functools
import gzip
import tracemalloc
import zipfile

import pyarrow as pa
import pytest

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import moses
from emma_jax.corpus.statistics import Report

ENGLISH = ["Save", "The sea is wide.", "Open the door"]
GERMAN = ["Speichern", "Das Meer ist weit.", "Öffne die Tür"]


def text(lines, encoding="utf-8"):
    return "".join(f"{line}\n" for line in lines).encode(encoding)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_zip(path, members, method=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def opus(english=ENGLISH, german=GERMAN):
    """The members of a zip as OPUS has them."""
    return {
        "README": b"Corpus Name: Tatoeba\n",
        "LICENSE": b"CC BY 2.0\n",
        "Tatoeba.de-en.de": german if isinstance(german, bytes) else text(german),
        "Tatoeba.de-en.en": english if isinstance(english, bytes) else text(english),
        "Tatoeba.de-en.ids": b"1\t2\n3\t4\n5\t6\n",
        "Tatoeba.de-en.scores": b"1\n1\n1\n",
    }


def read_all(path, **fields):
    """Rows and report of all parts of a source."""
    source = source_lib.Source(name="opus", reader="moses", path=str(path), licence="CC BY", **fields)
    rows, report = [], Report()
    for part in moses.parts(source):
        for batch in moses.read(part, report):
            assert batch.schema.equals(source_lib.PAIRS) and len(batch) <= source_lib.MAX_BATCH_ROWS
            rows += [tuple(row.values()) for row in batch.to_pylist()]
    return rows, report


PAIRS = [(german, english, "de", "en") for german, english in zip(GERMAN, ENGLISH, strict=True)]


def test_zip_of_opus(tmp_path):
    put_zip(tmp_path / "de-en.txt.zip", opus())
    rows, report = read_all(tmp_path)
    assert rows == PAIRS
    assert report.counts["read"] == {"kept": 3} and not report.bad_files


@pytest.mark.parametrize(
    "compress, suffix",
    [(bytes, ""), (gzip.compress, ".gz"), (functools.partial(pa.compress, codec="zstd", asbytes=True), ".zst")],
)
def test_files_next_to_each_other(tmp_path, compress, suffix):
    for name, content in opus().items():
        put(tmp_path / "Tatoeba" / (name + suffix * (name[-3:] in (".de", ".en"))), compress(content))
    rows, report = read_all(tmp_path)
    assert rows == PAIRS and not report.bad_files


def test_languages_and_parts_are_those_of_the_names(tmp_path):
    put_zip(tmp_path / "zips" / "pt_BR-en.zip", opus())
    for name in ("a/x.en-pt_BR.en", "a/x.en-pt_BR.pt_BR", "b/dev.en", "b/dev.de", "b/dev.fr", "c/train-de-en.de"):
        put(tmp_path / name, b"one\n")
    put(tmp_path / "c/train-de-en.en", b"one\n")
    found = moses.parts(source_lib.Source("opus", "moses", str(tmp_path), "CC0"))
    assert {part.name: part.languages for part in found} == {
        "zips/pt_BR-en.zip": {"por_Latn", "eng_Latn"},
        "a/x.en-pt_BR.en-pt_BR": {"eng_Latn", "por_Latn"},
        "b/dev.de-en": {"deu_Latn", "eng_Latn"},
        "b/dev.de-fr": {"deu_Latn", "fra_Latn"},
        "b/dev.en-fr": {"eng_Latn", "fra_Latn"},
        "c/train-de-en.de-en": {"deu_Latn", "eng_Latn"},
    }
    assert all(len(part.files) == (1 if part.name.endswith(".zip") else 2) for part in found)


def test_languages_of_the_source_choose_among_files(tmp_path):
    for name in ("dev.en", "dev.de", "dev.txt"):  # txt is Citak
        put(tmp_path / name, b"one\n")
    assert read_all(tmp_path, languages="en-txt")[0] == [("one", "one", "en", "txt")]
    with pytest.raises(ValueError, match="neither a .zip nor two files"):
        read_all(tmp_path, languages="fr-it")


@pytest.mark.parametrize("zipped", [True, False])
def test_sides_of_different_length_are_not_read_at_all(tmp_path, zipped):
    members = opus(german=[*GERMAN, "Noch einer"])
    if zipped:
        put_zip(tmp_path / "de-en.zip", members)
    else:
        for name, content in members.items():
            put(tmp_path / name, content)
    rows, report = read_all(tmp_path)
    (reason,) = report.bad_files.values()
    assert rows == [] and reason == "its sides have 4 and 3 lines"
    assert not report.counts["read"]


def test_bad_lines_cost_themselves_only(tmp_path):
    english = b"One\n\nThr\xe9e\nFo\0ur\r\nFive\n \nSeven"  # the last one without a line end
    german = b"Eins\nZwei\nDrei\nVier\r\n\xff\xfe\nSechs\nSieben\n"
    put_zip(tmp_path / "de-en.zip", opus(english, german))
    rows, report = read_all(tmp_path)
    assert [row[:2] for row in rows] == [("Eins", "One"), ("Vier", "Fo\0ur"), ("Sieben", "Seven")]
    assert report.counts["read"] == {"kept": 3, "empty_side": 2, "undecodable": 2}


def test_sides_in_another_encoding_are_named_with_the_way_out(tmp_path):
    put_zip(tmp_path / "de-en.zip", opus(german=text(["Tür", "Öl", "Meer", "Fuß"], "latin-1"), english=text("abcd")))
    assert "they are not in UTF-8: convert the file" in read_all(tmp_path)[1].bad_files["opus/de-en.zip"]


def test_side_that_is_damaged_is_named(tmp_path):
    whole = gzip.compress(text(f"{number * 7919}" for number in range(10_000)))
    put(tmp_path / "a.de-en.de.gz", whole)
    put(tmp_path / "a.de-en.en.gz", whole[: len(whole) // 2])
    rows, report = read_all(tmp_path)
    assert rows == [] and report.bad_files == {"opus/a.de-en.de.gz": "a.de-en.en.gz is cut short"}


def test_pair_with_a_code_that_will_be_refused_is_read_as_it_is_spelled(tmp_path):
    put(tmp_path / "OpenSubtitles.ze_en-zh_CN.ze_en", text(ENGLISH))
    put(tmp_path / "OpenSubtitles.ze_en-zh_CN.zh_CN", text(GERMAN))
    assert read_all(tmp_path)[0] == [(en, de, "ze_en", "zh_CN") for en, de in zip(ENGLISH, GERMAN, strict=True)]


def test_missing_side_and_archive_without_sides_are_named(tmp_path):
    put(tmp_path / "a.de-en.de", text(GERMAN))
    put_zip(tmp_path / "b.zip", {name: content for name, content in opus().items() if not name.endswith(".en")})
    put_zip(tmp_path / "c.zip", {"README": b"nothing"})
    rows, report = read_all(tmp_path)
    assert rows == []
    assert report.bad_files == {
        "opus/a.de-en.de": "has no other side: de or en is missing",
        "opus/b.zip": "has no other side of Tatoeba.de-en.de: de or en is missing",
        "opus/c.zip": "has no two files in it whose names end in two languages",
    }


def test_zip_damaged_anywhere_is_named_or_read_as_it_was(tmp_path):
    put_zip(tmp_path / "de-en.zip", opus())
    whole = (tmp_path / "de-en.zip").read_bytes()
    num_named = 0
    for position in range(0, len(whole), 7):
        for content in (whole[:position], whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :]):
            put(tmp_path / "de-en.zip", content)
            rows, report = read_all(tmp_path)
            num_named += bool(report.bad_files)
            assert report.bad_files or set(rows) <= {*PAIRS, *((e, g, "en", "de") for g, e, *_ in PAIRS)}
            assert str(tmp_path) not in str(report.bad_files)
    assert num_named > len(whole) / 7  # all that were cut, and some of the others


def test_damaged_content_of_a_zip_is_found_by_its_checksum(tmp_path):
    put_zip(tmp_path / "de-en.zip", opus(), zipfile.ZIP_STORED)
    whole = (tmp_path / "de-en.zip").read_bytes()
    put(tmp_path / "de-en.zip", whole.replace(b"Speichern", b"Speicherx"))
    rows, report = read_all(tmp_path)
    assert rows == [] and "Bad CRC" in report.bad_files["opus/de-en.zip"]


def test_encrypted_zip_is_named(tmp_path):
    put_zip(tmp_path / "de-en.zip", opus())
    content = bytearray((tmp_path / "de-en.zip").read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 8] |= 1  # the flag of encryption in the directory
        place = content.find(b"PK\x01\x02", place + 4)
    put(tmp_path / "de-en.zip", bytes(content))
    assert "is encrypted" in read_all(tmp_path)[1].bad_files["opus/de-en.zip"]


def test_paths_of_members_lead_nowhere(tmp_path):
    put_zip(tmp_path / "in" / "de-en.zip", {"../../x.de-en.de": text(GERMAN), "/tmp/../x.de-en.en": text(ENGLISH)})
    put_zip(tmp_path / "in" / "en-de.zip", {"../x.de-en.de": text(GERMAN), "../x.de-en.en": text(ENGLISH)})
    rows, report = read_all(tmp_path / "in")
    assert rows == PAIRS and list(report.bad_files) == ["opus/de-en.zip"]  # whose sides are in two folders
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("suffix", [".zip", ".gz"])
def test_bomb_is_named_and_takes_no_memory(tmp_path, suffix):
    zeros = b"\0" * (100 << 20)
    if suffix == ".zip":
        put_zip(tmp_path / "de-en.zip", opus(english=zeros, german=zeros))
    else:
        for language in ("de", "en"):
            put(tmp_path / f"a.de-en.{language}.gz", gzip.compress(zeros, 1))
    del zeros
    tracemalloc.start()
    rows, report = read_all(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (reason,) = report.bad_files.values()
    assert rows == [] and "expands to more than 200 times its size" in reason
    assert peak < 16 << 20


def test_line_of_100_mb_costs_itself_only(tmp_path, monkeypatch):
    # Random enough for no bomb: 1 MiB that is repeated is compressed to about 1/200 and below the limit of small files.
    monkeypatch.setattr("emma_jax.corpus.streams.MAX_RATIO", 10_000)
    long = b"x" * (100 << 20)
    for language in ("de", "en"):
        put(tmp_path / f"a.de-en.{language}.gz", gzip.compress(b"one\n" + long + b"\nthree\n", 1))
    rows, report = read_all(tmp_path)
    assert rows == [("one", "one", "de", "en"), ("three", "three", "de", "en")]
    assert report.counts["read"] == {"kept": 2, "too_large": 1}


def test_empty_and_utf16_files_are_named(tmp_path):
    for language in ("de", "en"):
        put(tmp_path / f"empty.de-en.{language}", b"")
        put(tmp_path / f"wide.de-en.{language}", text(ENGLISH, "utf-16"))
    rows, report = read_all(tmp_path)
    assert rows == []
    assert report.bad_files["opus/empty.de-en.de"] == "is empty"
    assert "UTF-16" in report.bad_files["opus/wide.de-en.de"]


def test_long_sides_stay_aligned_over_blocks_of_different_size(tmp_path):
    numbers = range(100_000)
    put(tmp_path / "a.de-en.de", text(f"{number}" for number in numbers))
    put(tmp_path / "a.de-en.en", text(f"{number} " + "long " * 20 for number in numbers))
    rows, _ = read_all(tmp_path)
    assert len(rows) == len(numbers)
    assert all(german == english.split()[0] == str(number) for number, (german, english, *_) in enumerate(rows))
