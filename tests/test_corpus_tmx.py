"""Translation memories: what is text of a segment, memory that does not grow with the file, and XML that is no good."""

import gzip
import tracemalloc
import zipfile

import pytest

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import tmx
from emma_jax.corpus.statistics import Report

HEAD = '<?xml version="1.0" encoding="{encoding}"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4">\n'
HEADER = '<header srclang="en" datatype="PlainText" segtype="sentence"/>\n<body>\n'
TAIL = "</body>\n</tmx>\n"


def unit(**segments):
    """A unit; `pt_BR="a"` is a variant in pt-BR."""
    variants = "".join(
        f'  <tuv xml:lang="{lang.replace("_", "-")}"><seg>{text}</seg></tuv>\n' for lang, text in segments.items()
    )
    return f'<tu tuid="1">\n<prop type="x">no text</prop>\n{variants}</tu>\n'


def memory(*units, encoding="UTF-8", head=HEAD):
    return (head.format(encoding=encoding) + HEADER + "".join(units) + TAIL).encode(encoding)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_source(path):
    return source_lib.Source(name="opus", reader="tmx", path=str(path), licence="CC BY")


def read_all(path):
    """Rows and report of all parts of a source."""
    rows, report = [], Report()
    for part in tmx.parts(make_source(path)):
        for batch in tmx.read(part, report):
            assert batch.schema.equals(source_lib.PAIRS) and len(batch) <= source_lib.MAX_BATCH_ROWS
            rows += [tuple(row.values()) for row in batch.to_pylist()]
    return rows, report


def read_bytes(folder, content, name="en-de.tmx"):
    put(folder / name, content)
    return read_all(folder)


def the_fault(folder, content):
    rows, report = read_bytes(folder, content)
    (reason,) = report.bad_files.values()
    return rows, reason


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "ISO-8859-1", "windows-1252"])
def test_memory_of_opus(tmp_path, encoding):
    content = memory(
        unit(en="The &lt;sea&gt;", de="Das <![CDATA[<Meer>]]> &#228;"), unit(en="Öl", de="ö"), encoding=encoding
    )
    rows, report = read_bytes(tmp_path, content)
    assert rows == [("The <sea>", "Das <Meer> ä", "en", "de"), ("Öl", "ö", "en", "de")]
    assert report.counts["read"] == {"kept": 2} and not report.bad_files


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_compressed(tmp_path, suffix):
    content, name = memory(unit(en="a", de="b")), f"Tatoeba.en-de.tmx{suffix}"
    if suffix == ".gz":
        put(tmp_path / name, gzip.compress(content))
    else:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README", b"none")
            archive.writestr("../en-de.tmx", content)
    assert read_all(tmp_path)[0] == [("a", "b", "en", "de")]
    (part,) = tmx.parts(make_source(tmp_path))
    assert part.languages == {"eng_Latn", "deu_Latn"}


def test_markup_is_no_text_and_what_hi_holds_is(tmp_path):
    text = (
        'A <bpt i="1">&lt;b&gt;</bpt>bold <hi type="term">high<ph x="1"/> <hi>er</hi></hi><ept i="1">&lt;/b&gt;</ept> '
        '<ph>{0}<sub>a footnote <bpt i="2">x</bpt></sub>{1}</ph><it pos="begin">\\b</it><ut>\\i</ut>end'
    )
    rows, _ = read_bytes(tmp_path, memory(unit(en=text, de="Ende")))
    assert rows == [("A bold high er end", "Ende", "en", "de")]


def test_unit_of_several_languages_gives_every_pair(tmp_path):
    rows, report = read_bytes(tmp_path, memory(unit(de="b", en="a", pt_BR="c", fr=" ")))
    assert rows == [("a", "b", "en", "de"), ("a", "c", "en", "pt-BR"), ("b", "c", "de", "pt-BR")]
    assert report.counts["read"] == {"kept": 3}
    many = memory(unit(**{f"x{number:03}": "text" for number in range(100)}))
    rows, report = read_bytes(tmp_path, many)
    assert len(rows) == tmx.MAX_LANGUAGES * (tmx.MAX_LANGUAGES - 1) // 2 == report.counts["read"]["kept"]
    assert report.counts["read"]["too_many_languages"] == 100 - tmx.MAX_LANGUAGES


def test_units_that_give_no_pair_are_counted(tmp_path):
    twice = unit(en="a", de="b").replace("</tu>", '<tuv xml:lang="de"><seg>c</seg></tuv></tu>')
    old = unit(en="d", de="e").replace("xml:lang", "lang")
    none = unit(en="f", de="g").replace(' xml:lang="de"', "")
    units = [
        twice,
        old,
        none,
        unit(en="h", de=" \n "),
        unit(en="h", de=""),
        unit(en="i"),
        "<tu></tu>",
        unit(en="j", de="k"),
    ]
    rows, report = read_bytes(tmp_path, memory(*units))
    assert [row[:2] for row in rows] == [("a", "b"), ("d", "e"), ("j", "k")]
    counts = dict(kept=3, repeated_language=1, no_language=1, empty_side=2, one_language=3)
    assert report.counts["read"] == counts and not report.bad_files


@pytest.mark.parametrize("head", [HEAD, HEAD.replace('<!DOCTYPE tmx SYSTEM "tmx14.dtd">', "")])
def test_entity_that_is_not_declared_costs_its_unit(tmp_path, head):
    rows, report = read_bytes(tmp_path, memory(unit(en="a&nbsp;b", de="c"), unit(en="d &amp; e", de="f"), head=head))
    assert rows == [("d & e", "f", "en", "de")]
    assert report.counts["read"] == {"kept": 1, "unknown_entity": 1} and not report.bad_files


BILLION_LAUGHS = "".join(
    f'<!ENTITY l{number} "{f"&l{number - 1};" * 10 if number else "lol"}">\n' for number in range(10)
)


@pytest.mark.parametrize(
    "declarations, text",
    [
        (BILLION_LAUGHS, "&l9;"),
        (f'<!ENTITY big "{"x" * 100_000}">', "&big;" * 10_000),
        ('<!ENTITY file SYSTEM "file:///etc/hostname">', "&file;"),
        ('<!ENTITY % file SYSTEM "file:///etc/hostname"> %file;', "a"),
        ('<!ENTITY % a "&#37;b;"> %a;', "a"),
    ],
    ids=["billion_laughs", "quadratic", "external", "external_parameter", "parameter"],
)
def test_declared_entities_are_refused(tmp_path, declarations, text):
    head = HEAD.replace('SYSTEM "tmx14.dtd"', f"[\n{declarations}\n]")
    rows, reason = the_fault(tmp_path, memory(unit(en=text, de="b"), head=head))
    assert rows == [] and "declares an entity, which is not read" in reason


def test_declarations_of_elements_are_passed_over(tmp_path):
    head = HEAD.replace('SYSTEM "tmx14.dtd"', '[<!ELEMENT tmx ANY><!ATTLIST tuv x CDATA "1">]')
    assert read_bytes(tmp_path, memory(unit(en="a", de="b"), head=head))[0] == [("a", "b", "en", "de")]


@pytest.mark.parametrize(
    "change, reason, num_kept",
    [
        (lambda content: b"", "is empty", 0),
        (lambda content: content[:-8], "is cut short at line", 2),
        (lambda content: content.replace(b"<seg>last", b"<seg>l\0ast"), "is malformed at line 13", 1),
        (lambda content: content.replace(b"<seg>last", b"<seg>l\xe4st"), "is malformed at line 13", 1),
        (lambda content: content.replace(b"<seg>last", b"<seg>l & t"), "is malformed at line 13", 1),
        (lambda content: content.replace(b"last</seg>", b"last</set>"), "is malformed at line 13", 1),
        (lambda content: content.replace(b"last", b"&#xD800;"), "is malformed at line 13", 1),
        (lambda content: content.replace(b"UTF-8", b"no-such-one"), "in an encoding that is not read", 0),
        (lambda content: content.replace(b"UTF-8", b"GB18030"), "in an encoding that is not read", 0),
        (lambda content: content.replace(b"UTF-8", b"UTF-16"), "is malformed at line 1", 0),
        (lambda content: content.decode().encode("utf-16-le"), "is malformed at line 1", 0),
        (lambda content: b"<html><body></body></html>", "is no TMX: its first element is <html>", 0),
        (lambda content: content + content, "is malformed at line", 2),
    ],
)
def test_bad_xml_is_named_and_what_stood_before_is_kept(tmp_path, change, reason, num_kept):
    content = change(memory(unit(en="first", de="erste"), unit(en="last", de="letzte")))
    rows, found = the_fault(tmp_path, content)
    assert reason in found and len(found) < 200
    assert [row[:2] for row in rows] == [("first", "erste"), ("last", "letzte")][:num_kept]


def test_cut_anywhere_gives_whole_units_only(tmp_path):
    pairs = [(f"one {number} ä", f"eins {number} ö") for number in range(5)]
    whole = memory(*(unit(en=src, de=tgt) for src, tgt in pairs))
    for length in range(0, len(whole) - 2, 5):
        rows, _ = the_fault(tmp_path, whole[:length])
        assert [row[:2] for row in rows] == pairs[: whole[:length].count(b"</tu>")]


def test_cut_and_damaged_gzip_keeps_what_stood_before(tmp_path):
    whole = gzip.compress(memory(*(unit(en=f"one {n * 7919}", de=f"eins {n * 104729}") for n in range(20_000))), 1)
    for content in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\xff" * 1000):
        rows, report = read_bytes(tmp_path, content, "en-de.tmx.gz")
        assert 5_000 < len(rows) < 15_000
        assert "is cut short" in str(report.bad_files) or "is damaged" in str(report.bad_files)


@pytest.fixture
def no_bomb(monkeypatch):
    """Lets gzip have what is long and all the same, so that it can be made fast."""
    monkeypatch.setattr("emma_jax.corpus.streams.MAX_RATIO", 10_000)


def peak_of(folder, content, name="en-de.tmx.gz"):
    """Rows, report and the most memory that reading took."""
    put(folder / name, content)
    tracemalloc.start()
    rows, report = read_all(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return rows, report, peak


def test_segment_of_100_mb_costs_itself_only(tmp_path, no_bomb):
    long = unit(en="x" * (100 << 20), de="a")
    content = gzip.compress(memory(unit(en="1", de="2"), long, unit(en="3", de="4")), 1)
    rows, report, peak = peak_of(tmp_path, content)
    assert [row[:2] for row in rows] == [("1", "2"), ("3", "4")]
    assert report.counts["read"] == {"kept": 2, "too_large": 1} and peak < 80 << 20


def test_unit_whose_pairs_are_too_large_together_costs_itself_only(tmp_path):
    long = unit(**{f"x{number:02}": "y" * (1 << 20) for number in range(10)})
    rows, report = read_bytes(tmp_path, memory(unit(en="1", de="2"), long, unit(en="3", de="4")))
    assert [row[0] for row in rows] == ["1", "3"] and report.counts["read"] == {"kept": 2, "too_large": 1}


@pytest.mark.parametrize(
    "start, filling, reason",
    [
        ('<tu x="', "y" * 1000, "has a tag of more than 16 MiB"),
        ("<!--", "y" * 1000, "has a tag of more than 16 MiB"),
        ("", "<a>", "nests elements more than 100 deep"),
    ],
    ids=["attribute", "comment", "depth"],
)
def test_what_the_parser_would_keep_is_bounded(tmp_path, no_bomb, start, filling, reason):
    content = memory(unit(en="1", de="2"))[: -len(TAIL)] + (start + filling * ((40 << 20) // len(filling))).encode()
    rows, report, peak = peak_of(tmp_path, gzip.compress(content, 1))
    assert [row[0] for row in rows] == ["1"] and reason in report.bad_files["opus/en-de.tmx.gz"]
    assert peak < 80 << 20


def test_names_and_declarations_are_bounded(tmp_path, no_bomb, monkeypatch):
    names = "".join(f"<a{number}/>" for number in range(100_000))
    assert "has more than 10,000 names" in the_fault(tmp_path, memory(names))[1]
    monkeypatch.setattr(tmx, "MAX_RECORD_BYTES", 1 << 20)
    head = HEAD.replace('SYSTEM "tmx14.dtd"', "[" + "<!ELEMENT a ANY><!-- -->" * 100_000 + "]")
    assert "has a DOCTYPE of more than 1 MiB" in the_fault(tmp_path, memory(head=head))[1]


def test_zip_bomb_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "en-de.tmx.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("en-de.tmx", memory(unit(en="1", de="2")) + b" " * (100 << 20))
    rows, report = read_all(tmp_path)
    assert rows == [] and "expands to more than 200 times its size" in report.bad_files["opus/en-de.tmx.zip"]


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tmx, "MAX_BATCH_ROWS", 2048)  # so that the small file has a full batch too
    peaks = {}
    for num_units in (3_000, 30_000):  # of 3 and 30 MB
        path = tmp_path / str(num_units) / "en-de.tmx"
        text = "The sea is wide. " * 26
        put(path, memory(*(unit(en=f"{number} {text}", de=text) for number in range(num_units))))
        assert path.stat().st_size > 900 * num_units
        (part,) = tmx.parts(make_source(path))
        tracemalloc.start()
        assert sum(len(batch) for batch in tmx.read(part, Report())) == num_units
        peaks[num_units] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[30_000] < 1.2 * peaks[3_000]
