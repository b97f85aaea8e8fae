"""Each filter drops what it is named after and keeps its neighbour; text is made one way of writing."""

import pyarrow as pa
import pytest

from emma_jax.corpus import clean
from emma_jax.corpus.statistics import Report

THRESHOLDS = dict(
    min_characters=2, max_characters=40, min_letter_share=0.5, min_script_share=0.25, max_length_ratio=3.0
)


@pytest.mark.parametrize(
    ("reason", "lang", "kept", "dropped"),
    [
        ("too_short", "zho_Hani", "门口", "门"),
        ("too_long", "fin_Latn", "a" * 40, "a" * 41),
        ("undecodable", "fra_Latn", "été", "\ufffdt\ufffd"),
        ("few_letters", "deu_Latn", "Kapitel 12", "12.10.2026"),
        ("few_letters", "hin_Deva", "हिन्दी", "१२३४"),
        ("few_letters", "fra_Latn", "<b>%(name)s</b> et {autre}", "<b>%(name)s</b> {autre} %s"),
        ("few_letters", "fra_Latn", "de %d à %d", "%d %%"),
        ("wrong_script", "rus_Cyrl", "Версия Sphinx", "Sphinx version"),
        ("wrong_script", "jpn_Jpan", "ユーザー名 (ID)", "user name です"),
        ("wrong_script", "kor_Hang", "한국어", "にほんご"),
        ("wrong_script", "ara_Arab", "%(verbose_name)s من", "%(verbose_name)s of"),
        ("untranslated", "nld_Latn", "Hallo daar", "Hello"),
    ],
)
def test_filter_of_texts(reason, lang, kept, dropped):
    report = Report()
    table = pa.table(dict(text=[kept, dropped], lang=[lang] * 2, message=["Hello"] * 2))
    assert clean.texts_kept(table, THRESHOLDS, report).tolist() == [True, False]
    assert report.counts["clean_texts"] == {reason: 1, "kept": 1}


def test_english_is_not_untranslated():
    table = pa.table(dict(text=["Hello"], lang=["eng_Latn"], message=["Hello"]))
    assert clean.texts_kept(table, THRESHOLDS, Report()).all()


@pytest.mark.parametrize(
    ("reason", "kept", "dropped"),
    [
        ("identical_sides", ("Da", "Так"), ("Da", "Da")),
        ("length_ratio", ("abc", "abcdefghi"), ("abcdefghij", "abc")),
    ],
)
def test_filter_of_pairs(reason, kept, dropped):
    report = Report()
    table = pa.table(dict(src_text=[kept[0], dropped[0]], tgt_text=[kept[1], dropped[1]]))
    assert clean.pairs_kept(table, THRESHOLDS, report).tolist() == [True, False]
    assert report.counts["clean_pairs"] == {reason: 1, "kept": 1}


def test_every_filter_has_a_test():
    marks = [
        mark
        for test in (test_filter_of_texts, test_filter_of_pairs)
        for mark in test.pytestmark
        if mark.args[0][0] == "reason"
    ]
    tested = {case[0] for mark in marks for case in mark.args[1]}
    assert tested == {drops.__name__ for drops in (*clean.TEXT_FILTERS, *clean.PAIR_FILTERS)}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  two \t words\n", "two words"),
        ("non\u00a0breaking\u2009and\u3000wide", "non breaking and wide"),
        ("e\u0301\u0323", "\u1eb9\u0301"),
        ("\u1112\u1161\u11ab", "\ud55c"),  # Hangul from its letters
        ("\ufeffbell\x07 \x85next", "bell next"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # a joiner is spelling
        ("ถ\u0e4d\u0e32", "ถ\u0e4d\u0e32"),  # only NFKC would join these
        ("\x00\x1f", ""),
    ],
)
def test_normalised_text(text, normal):
    assert clean.normalise(pa.chunked_array([[text]])).to_pylist() == [normal]
    assert clean.normalise(pa.chunked_array([[normal]])).to_pylist() == [normal]


def test_lines_are_kept_for_documents():
    text = "Title \r\n\r\n\r\n\r\n  First\tline\x0b \u2028second\x00\n"
    assert clean.normalise(pa.chunked_array([[text]]), keep_lines=True).to_pylist() == ["Title\n\nFirst line\nsecond"]
