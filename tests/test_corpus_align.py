"""Pairs of sentences by message id: which row of a message counts, and tables of a bounded size."""

import itertools

import pyarrow as pa
import pytest

from emma_jax.corpus import align

CODES = ("ces_Latn", "deu_Latn", "eng_Latn", "fra_Latn", "swh_Latn")
ASKED_FOR = [pair for pair in itertools.combinations(CODES, 2) if "eng_Latn" not in pair]


def table(rows):
    """SENTENCES of (message id, language, text)."""
    return pa.table(dict(zip(("message_id", "lang", "text"), map(list, zip(*rows, strict=True)), strict=True)))


def pairs(rows, pairs=ASKED_FOR, **bounds):
    """The tables of pairs that rows of sentences make, each as (src_text, tgt_text, message)."""
    found = align.pairs_of_sentences(align.with_messages(table(rows)), pairs, **bounds)
    columns = (each.select(["src_text", "tgt_text", "message"]).to_pydict().values() for each in found)
    return [list(zip(*each, strict=True)) for each in columns]


@pytest.fixture(scope="module")
def sentences():
    """Messages of which no language has every one, and most languages have some twice."""
    rows = [
        (f"{number}", code, f"{code} {number}") for place, code in enumerate(CODES) for number in range(place, 40, 2)
    ]
    return rows + [(f"{number}", code, f"{code} {number} again") for code in CODES for number in range(0, 40, 5)]


@pytest.mark.parametrize("lang", ["eng_Latn", "fra_Latn"])
def test_the_first_row_of_a_message_counts(lang):
    rows = [("1", "swh_Latn", "c"), ("1", lang, "first"), ("1", lang, "second"), ("1", "swh_Latn", "d")]
    found = align.with_messages(table(rows))
    assert found["message"].to_pylist() == ["first"] * 4
    assert found["english"].to_pylist() == ["first" if lang == "eng_Latn" else ""] * 4
    (aligned,) = pairs(rows, [("fra_Latn", "swh_Latn")])
    assert {(src, message) for src, _, message in aligned} == {("first", "first")}


def test_pairs_are_those_of_equal_ids(sentences):
    """Each sentence once with the first English row, and the first rows of both languages of a pair."""
    first, expected = {}, []
    for message, code, text in sentences:
        first.setdefault((message, code), text)
    for message, code, text in sentences:
        if code != "eng_Latn" and (message, "eng_Latn") in first:
            expected.append(tuple(text for _, text in sorted([(code, text), ("eng_Latn", first[message, "eng_Latn"])])))
    for message, (src, tgt) in itertools.product(sorted({row[0] for row in sentences}), ASKED_FOR):
        if (message, src) in first and (message, tgt) in first:
            expected.append((first[message, src], first[message, tgt]))
    found = [(src, tgt) for src, tgt, _ in itertools.chain.from_iterable(pairs(sentences))]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("max_rows", [1, 7, 64])
def test_bounded_tables_have_the_same_pairs(sentences, max_rows):
    (whole,) = pairs(sentences)
    tables = pairs(sentences, max_rows=max_rows)
    assert [len(each) for each in tables[:-1]] == [max_rows] * (len(tables) - 1)
    assert list(itertools.chain.from_iterable(tables)) == whole


def test_sentences_that_align_with_none_make_no_table():
    assert pairs([("1", "deu_Latn", "a"), ("2", "fra_Latn", "b"), ("3", "eng_Latn", "c")]) == []
