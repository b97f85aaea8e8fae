"""The page of a corpus: what it says of a corpus known in advance, at the size of the paper, and of hostile text."""

import dataclasses
import html.parser
import re

import paper_manifest
import pytest
import tiny_corpus

from emma_jax import languages, manifest
from emma_jax.corpus import listing, page

VOID = {"meta", "br", "input"}
VALIDATION = manifest.Split(("v",), 1, 2, 3)


class Parsed(html.parser.HTMLParser):
    """The tables of a page by the heading above them, as rows of cells, and every element with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.elements, self.texts, self._open, self._heading = {}, [], [], [], ""
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("h2", "h3", "figcaption"):
            self._heading = ""
        elif tag == "table":
            self.tables.setdefault(self._heading, [])
        elif tag == "tr":
            self.tables[self._heading].append([])
        elif tag in ("td", "th"):
            self.tables[self._heading][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self._open and self._open[-1] in ("h2", "h3", "figcaption"):
            self._heading += data
        elif "td" in self._open or "th" in self._open:
            self.tables[self._heading][-1][-1] += data


@pytest.fixture(scope="module")
def paper():
    """The manifest of a corpus of the paper's size."""
    return paper_manifest.make()


@pytest.fixture(scope="module")
def parsed(paper):
    """Its page, parsed; all elements are closed."""
    return Parsed(page.html(paper))


def small(**fields):
    """A corpus of one pair, of which three records were read and two are left."""
    split = manifest.Split(("t",), 1, 20_000_000, 1500)
    pair = manifest.Entry({"train": split, "validation": VALIDATION}, "medium-low", {"web": 2})
    empty = manifest.Manifest("", manifest.VERSION, 7, "", {}, {"deu_Latn-swh_Latn": pair}, {}, (), (), {"web": "MIT"})
    return dataclasses.replace(empty, **fields)


def test_paper_size(paper):
    written = page.html(paper)
    assert len(written.encode()) < 3_000_000
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", written)


def test_every_language_and_pair_is_there(paper, parsed):
    pairs = [row[0] for row in parsed.tables["Every pair"][1:]]
    assert sorted(pairs) == sorted(paper.pairs)
    codes = [row[0] for row in parsed.tables["Every language"][1:]]
    assert sorted(codes[:-1]) == sorted(paper.languages)
    tokens = [int(row[8].replace(",", "")) for row in parsed.tables["Every pair"][1:]]
    assert tokens == sorted(tokens, reverse=True)


def test_a_language_that_was_read_and_is_gone_is_there(parsed):
    last = parsed.tables["Every language"][-1]
    assert last == ["bzh_Latn", languages.name("bzh_Latn"), "nothing left", "4", "0", "0", "0", "0", "0", "0 B", ""]


def test_a_row_has_records_at_every_stage(paper, parsed):
    entry, records = paper.pairs["eng_Latn-fra_Latn"], paper.records
    row = next(row for row in parsed.tables["Every pair"] if row[0] == "eng_Latn-fra_Latn")
    assert row[1:3] == ["English – French", "very high"]
    counts = [records[stage]["eng_Latn-fra_Latn"] for stage in ("read", "clean", "deduplicate")]
    rows = [entry.splits[split].rows for split in manifest.SPLITS]
    assert [int(cell.replace(",", "")) for cell in row[3:8]] == [*counts, *rows]
    assert row[8] == f"{sum(split.tokens for split in entry.splits.values()):,}"


def test_sizes_by_class():
    tables = Parsed(page.html(small())).tables
    assert [
        row[0].split("from")[0].split("fewer")[0] for row in tables["Language pairs, by tokens of both sides"][1:]
    ] == [name for name, _ in languages.PAIR_CLASSES]
    assert tables["Language pairs, by tokens of both sides"][5] == ["medium-lowfrom 10M", "1", "20M"]
    assert tables["Language pairs, by tokens of both sides"][6] == ["lowfrom 1M", "0", "0"]
    assert "Languages, by tokens of their text" not in tables


def test_languages_by_script():
    text = manifest.Entry({"train": manifest.Split(("t",), 9, 70, 5)}, "very low", {})
    corpus = small(languages={"jpn_Jpan": text, "deu_Latn": text})
    assert Parsed(page.html(corpus)).tables["Languages by script"][1:] == [
        ["LatinLatn", "2", "70", "1"],  # deu has text, swh is in a pair only
        ["Han + Hiragana + KatakanaJpan", "1", "70", "0"],
    ]


def test_records_by_stage():
    pair = "deu_Latn-swh_Latn"
    corpus = small(records={"read": {pair: 8, "deu_Latn": 9}, "clean": {pair: 4}, "deduplicate": {pair: 2}})
    tables = Parsed(page.html(corpus)).tables
    expected = ["read", "8 (100%)"], ["clean", "4 (50%)"], ["distinct", "2 (25%)"]
    splits = ["for training", "1 (12%)"], ["for validation", "1 (12%)"]
    assert tables["Sentence pairs"][1:] == [*expected, *splits]
    assert tables["Texts of languages"][1] == ["read", "9 (100%)"]
    assert [row[0] for row in tables["Every language"]] == ["code", "deu_Latn"]


def test_what_was_dropped():
    counts = {
        "clean_pairs": {"length_ratio": 1, "identical_sides": 2, "kept": 5},
        "clean_sides": {"too_long": 1, "kept": 16},
        "read": {"bad_file": 50, "bad_json": 1, "kept": 9},
        "normalise": {"tidied": 3, "unchanged": 7},
    }
    texts = Parsed(page.html(small(counts=counts))).texts
    found = [
        text
        for text in texts
        if text in ("bad json", "length ratio", "identical sides", "too long", "bad file", "tidied", "kept")
    ]
    assert found == ["bad json", "too long", "identical sides", "length ratio"]  # by stage, then by records
    assert texts.index("Cleaning: each side of pairs") < texts.index("too long") < texts.index("Cleaning: pairs")
    at = texts.index("identical sides")
    assert texts[at : at + 4] == ["identical sides", "2", "25%", "Both sides are the same text."]
    assert texts[texts.index("bad json") + 2] == "10%"
    assert "Of 10 texts the encoding of 0 was repaired, and 3 more had space" in "".join(texts)


def test_examples_are_shown_as_they_are(parsed):
    rows = parsed.tables["Cleaning: pairs"]
    assert ["eng_Latn", "<script>alert('no')</script>"] in rows
    assert ["ara_Arab", paper_manifest.ARABIC] in rows
    assert ["eng_Latn", "␀␛[31m red"] in parsed.tables["Cleaning: texts"]
    assert ["swh_Latn", "(empty)"] in parsed.tables["Cleaning: texts"]
    shown = [attributes for tag, attributes in parsed.elements if tag == "td" and attributes.get("class") == "text"]
    assert {attributes["dir"] for attributes in shown} == {"auto"}
    assert {"ar-Arab", "swh-Latn", "ja-Jpan"} <= {attributes["lang"] for attributes in shown}


@pytest.mark.parametrize("example", [["Ja"], ["Ja", "?"], ["Ja", ""]])
def test_examples_without_a_known_language(example):
    corpus = small(counts={"codes": {"refused_code": 1}}, examples={"codes/refused_code": [example]})
    parsed = Parsed(page.html(corpus))
    assert parsed.tables["Language codes"] == [[*example[1:], "Ja"] if example[1:] else ["", "Ja"]]
    assert all(attributes.get("lang") is None for tag, attributes in parsed.elements if tag == "td")


def test_codes_and_files(parsed):
    refused = parsed.tables["Language codes that were refused"]
    assert refused[1] == ["x-a", "not a language code", "opus", "1"]
    spelt = parsed.tables["Language codes as they were spelt"][1:]
    assert len(spelt) == 2 * 546
    doubtful = [bool(row[3]) for row in spelt]
    assert any(doubtful) and doubtful == sorted(doubtful, reverse=True)
    assert ["opus/<script>alert(1)</script>.zip", "not a zip file"] in parsed.tables["Files that were bad"]
    assert parsed.tables["Sources"][3][:4] == ["opus", "moses", "various | see <opus.nlpl.eu>", "languages en-de"]
    assert parsed.tables["Sources"][3][-1] == "1"


def test_sources_say_what_was_read_dropped_and_left():
    text = manifest.Entry({"train": manifest.Split(("t",), 3, 9, 9)}, "very low", {"books": 1, "web": 2})
    corpus = small(
        languages={"deu_Latn": text},
        licences={"books": "MIT", "lost": "MIT", "old": "MIT", "web": "MIT"},
        source_records={
            "books": {"kept": 3, "read": 1004},
            "lost": {"kept": 0, "read": 0},
            "web": {"kept": 5, "read": 5},
        },
    )
    head, *found = Parsed(page.html(corpus)).tables["Sources"]
    assert head[4:] == [
        "read",
        "dropped",
        "duplicate or held out",
        "left",
        "texts",
        "pairs",
        "in collections",
        "bad files",
    ]
    assert {row[0]: row[4:11] for row in found} == {
        "books": ["1,004", "1,001", "2", "1", "1", "0", "0"],
        "lost": ["0", "0", "0", "0", "0", "0", "0"],
        "old": ["–", "–", "–", "0", "0", "0", "0"],  # a manifest need not say what was read
        "web": ["5", "0", "1", "4", "2", "2", "0"],
    }


def test_one_spelling_of_several_sources_is_one_row():
    mapped = [dict(source=source, spelling="de", code="deu_Latn", doubts="", records=2) for source in ("web", "books")]
    tables = Parsed(page.html(small(mapped_codes=tuple(mapped)))).tables
    assert tables["Language codes as they were spelt"][1:] == [["de", "deu_Latn", "German", "", "books, web", "4"]]


def test_lists_without_end_are_cut(monkeypatch):
    monkeypatch.setattr(listing, "MAX_LISTED", 2)
    parsed = Parsed(page.html(small(bad_files=tuple(dict(file=f"web/{n}", reason="cut short") for n in range(5)))))
    assert len(parsed.tables["Files that were bad"]) == 1 + 2
    assert "3 more are in manifest.json." in parsed.texts


def test_the_page_loads_nothing(parsed):
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "img", "iframe")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    anchors = {attributes["href"][1:] for tag, attributes in parsed.elements if tag == "a"}
    assert anchors == {attributes["id"] for tag, attributes in parsed.elements if tag == "h2"}
    assert len([tag for tag, _ in parsed.elements if tag == "script"]) == 1


def test_equal_corpora_have_equal_pages(tmp_path):
    corpora = [tiny_corpus.standard(tmp_path / name, rows=3) for name in ("one", "two")]
    for corpus in corpora:
        page.write(corpus)
    one, two = ((tmp_path / name / page.FILE_NAME).read_bytes() for name in ("one", "two"))
    assert one == two
    assert str(tmp_path).encode() not in one
    assert Parsed(one.decode()).tables["Every pair"][1][3] == "–"  # this manifest does not say what was read
