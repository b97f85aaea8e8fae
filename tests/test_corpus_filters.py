"""Each filter drops what it is named after and keeps its neighbour; measures are those that a plain loop finds."""

import random
import unicodedata

import numpy as np
import pyarrow as pa
import pytest

from configs import base
from emma_jax.corpus import characters, features, filters
from emma_jax.corpus.statistics import Report

TEXTS = dict(
    empty=True, too_short=2, too_long=40, undecodable=True, few_letters=0.5, wrong_script=0.25, repeated_ngrams=0.5,
    untranslated=True,
)  # fmt: skip
PAIRS = dict(identical_sides=True, length_ratio=3.0, word_ratio=3.0, placeholder_mismatch=0.75, number_mismatch=0.6)


@pytest.mark.parametrize(
    ("reason", "lang", "kept", "dropped"),
    [
        ("empty", "fin_Latn", "on", ""),
        ("too_short", "zho_Hani", "门口", "门"),
        ("too_long", "fin_Latn", "abcdefghij" * 2, "abcdefghijklmnopqrst" * 2 + "a"),
        ("undecodable", "fra_Latn", "été", "\ufffdt\ufffd"),
        ("few_letters", "deu_Latn", "Kapitel 12", "12.10.2026"),
        ("few_letters", "hin_Deva", "हिन्दी", "१२३४"),
        ("few_letters", "fra_Latn", "<b>%(name)s</b> et {autre}", "<b>%(name)s</b> {autre} %s"),
        ("few_letters", "fra_Latn", "de %d à %d", "%d %%"),
        ("few_letters", "eng_Latn", "see http://a.example/b here", "http://example.org/some/page 1"),
        ("wrong_script", "rus_Cyrl", "Версия Sphinx", "Sphinx version"),
        ("wrong_script", "jpn_Jpan", "ユーザー名 (ID)", "user name です"),
        ("wrong_script", "kor_Hang", "한국어", "にほんご"),
        ("wrong_script", "ara_Arab", "%(verbose_name)s من", "%(verbose_name)s of"),
        ("repeated_ngrams", "eng_Latn", "so it goes, so it goes, and on", "so it goes, so it goes, so it goes, so"),
        ("repeated_ngrams", "tha_Thai", "มากมากมากมากมาก", "มากมากมากมากมากมากมาก"),
        ("untranslated", "nld_Latn", "Hallo daar", "Hello"),
    ],
)
def test_filter_of_texts(reason, lang, kept, dropped):
    report = Report()
    table = pa.table(dict(text=[kept, dropped], lang=[lang] * 2, message=["Hello"] * 2))
    assert filters.texts_kept(table, TEXTS, report).tolist() == [True, False]
    assert report.counts["clean_texts"] == {reason: 1, "kept": 1}
    assert report.examples == {f"clean_texts/{reason}": [[dropped, lang]]}


def test_english_is_not_untranslated():
    table = pa.table(dict(text=["Hello"], lang=["eng_Latn"], message=["Hello"]))
    assert filters.texts_kept(table, TEXTS, Report()).all()


@pytest.mark.parametrize(
    ("reason", "kept", "dropped"),
    [
        ("identical_sides", ("Da", "Так"), ("Da", "Da")),
        ("length_ratio", ("a" * 10, "b" * 50), ("a" * 10, "b" * 51)),
        # Twenty letters of Chinese say as much as sixty of English, in more than a dozen words.
        ("length_ratio", ("语" * 20, "the book " * 20), ("b" * 20, "the book " * 20)),
        ("word_ratio", ("a b c d e f g h i j k l m", "abcdefgh jkl mnop"), ("a b c d e f g h i j k l m", "abcdefgh i")),
        ("word_ratio", ("a b c d e f g h i j k l m", "语言文字语言文字"), ("a b c d e f g h i j k l m", "abcdefgh")),
        ("placeholder_mismatch", ("%(user)s wrote %d", "%d von %(user)s"), ("%(user)s wrote", "%(nutzer)s schrieb")),
        ("placeholder_mismatch", ("%s of {total}", "%1$s von {total:d}"), ("%s of %s files", "%s von Dateien")),
        ("placeholder_mismatch", ("<b class='x'>a</b> 5%", "5% <b>ä</b>"), ("<b>a</b> file", "<i>eine</i> Datei")),
        ("placeholder_mismatch", ("&lt;{a b} <- http://a.b", "{c d} 100%ig"), ("none here", "keine {da}")),
        ("number_mismatch", ("in 1,234.5", "1 234,5 km"), ("page 17", "Seite 28")),
        ("number_mismatch", ("١٢ مايو 2019", "May 12, ٢٠١٩"), ("١٢ مايو", "May 34")),
        ("number_mismatch", ("two weeks", "14 Tage"), ("1 week", "14678 Tage")),
        ("number_mismatch", ("%2$s and {0}", "{0} und %1$s"), ("%2$s and 7", "%2$s und 2")),
    ],
)  # fmt: skip
def test_filter_of_pairs(reason, kept, dropped):
    report = Report()
    src, tgt = ([kept[side], dropped[side]] for side in (0, 1))
    table = pa.table(dict(src_text=src, tgt_text=tgt, src_lang=["eng_Latn"] * 2, tgt_lang=["deu_Latn"] * 2))
    assert filters.pairs_kept(table, PAIRS, report).tolist() == [True, False]
    assert report.counts["clean_pairs"] == {reason: 1, "kept": 1}
    # It makes no difference which side is which.
    names = {"src_text": "tgt_text", "tgt_text": "src_text"}
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    assert filters.pairs_kept(table, PAIRS, Report()).tolist() == [True, False]


def test_every_filter_has_a_test_and_a_threshold():
    marks = [
        mark
        for test in (test_filter_of_texts, test_filter_of_pairs)
        for mark in test.pytestmark
        if mark.args[0][0] == "reason"
    ]
    tested = {case[0] for mark in marks for case in mark.args[1]}
    texts, pairs = ({drops.__name__ for drops in table} for table in (filters.TEXT_FILTERS, filters.PAIR_FILTERS))
    assert tested == texts | pairs
    sections = base.get_config().corpus.filters
    assert set(sections.pairs) == pairs
    assert set(sections.sentences) == texts
    assert set(sections.documents) <= texts and set(sections.collections) <= texts


def test_a_filter_without_threshold_does_not_run():
    table = pa.table(dict(text=["", "x" * 99], lang=["rus_Cyrl"] * 2))
    report = Report()
    assert filters.texts_kept(table, dict(empty=False, too_long=0, wrong_script=0.0), report).all()
    assert report.counts["clean_texts"] == {"kept": 2}


def test_the_first_filter_counts():
    table = pa.table(dict(text=["\ufffd" * 99], lang=["rus_Cyrl"]))
    report = Report()
    filters.texts_kept(table, TEXTS, report)
    assert report.counts["clean_texts"] == {"too_long": 1}


def test_no_rows():
    text, table = pa.array([], pa.string()), {}
    for side in ("src", "tgt"):
        table |= {f"{side}_text": text, f"{side}_lang": text}
    assert filters.pairs_kept(pa.table(table), PAIRS, Report()).tolist() == []
    assert filters.texts_kept(pa.table(dict(text=text, lang=text)), TEXTS, Report()).tolist() == []


FRAGMENTS = [
    "%(name)s", "%d", "%%", "%5.1f", "{0}", "{a b}", "{", "<b>", "</b>", "<", "a > b", "&amp;", "http://a.b/c", ":/",
    "word", "слово", "语言", "ภาษา", "ሰላም", "שלום", "1,234", "٧", "e\u0301", " ", "  ", ". ", "ha ha ha ha ha ", "ー",
    "", "ʼ", ":", "\n", "\U00020000", "\U0001f600",
]  # fmt: skip


def random_texts(number):
    rng = random.Random(1)
    return ["".join(rng.choices(FRAGMENTS, k=rng.randint(0, 9))) for _ in range(number)]


def without_markup(text):
    return features.MARKUP.sub(lambda match: " " * len(match[0]), text)


def is_letter(character):
    return unicodedata.category(character)[0] in "LM"


def test_measures_of_random_texts():
    texts = random_texts(3000)
    found = features.Texts(pa.array(["x", *texts]).slice(1), pa.array(["rus_Cyrl", "jpn_Jpan"] * 1500))
    plain = [without_markup(text) for text in texts]
    assert found.lengths.tolist() == [len(text) for text in texts]
    assert found.num_letters.tolist() == [sum(map(is_letter, text)) for text in plain]
    assert found.num_visible.tolist() == [sum(not c.isspace() for c in text) for text in plain]
    digits = [[sum(c.isdecimal() and unicodedata.decimal(c) == i for c in text) for i in range(10)] for text in plain]
    assert found.digit_counts.tolist() == digits
    own, letters = found.num_letters_of_script
    cyrillic = [sum("CYRILLIC" in unicodedata.name(c, "") for c in text) for text in plain]
    assert own[::2].tolist() == cyrillic[::2]
    assert own[1::2].tolist() == [sum("CJK UNIFIED" in unicodedata.name(c, "") for c in text) for text in plain[1::2]]
    shared = [sum(c in "ーʼ" for c in text) for text in plain]
    no_marks = [sum(unicodedata.category(c)[0] == "L" for c in text) for text in plain]
    assert letters.tolist() == [a - b for a, b in zip(no_marks, shared, strict=True)]
    rows, names = found.placeholders
    expected = [(i, n) for i, t in enumerate(texts) for m in features.MARKUP.finditer(t) if (n := features._name(m))]
    assert list(zip(rows.tolist(), names, strict=True)) == expected


@pytest.mark.parametrize("least", [0.4, 0.5, 0.8, 1.0])
def test_repeated_ngrams_of_random_texts(least):
    texts = random_texts(2000)
    found = features.Texts(pa.array(texts), pa.array(["eng_Latn"] * len(texts))).have_fewer_ngrams(least)
    for text, fewer in zip(texts, found.tolist(), strict=True):
        runs = [text[i : i + features.NGRAM] for i in range(len(text) - features.NGRAM + 1)]
        assert fewer == (len(set(runs)) < least * len(runs)), text
    assert 0 < found.sum() < len(texts)


def test_pieces_do_not_change_the_answer(monkeypatch):
    texts = random_texts(500)
    rng = random.Random(2)
    table = pa.table(
        dict(src_text=texts, tgt_text=rng.sample(texts, 500))
        | {s: ["eng_Latn"] * 500 for s in ("src_lang", "tgt_lang")}
    )
    answers = []
    for num_bytes, num_rows in ((1 << 18, 1 << 16), (100, 1 << 16), (1 << 18, 3)):
        monkeypatch.setattr(characters, "PIECE_BYTES", num_bytes)
        monkeypatch.setattr(characters, "PIECE_ROWS", num_rows)
        report = Report()
        kept = filters.pairs_kept(table, PAIRS, report)
        one = pa.table(dict(text=table["src_text"], lang=table["src_lang"]))
        answers.append((kept.tolist(), filters.texts_kept(one, TEXTS, report).tolist(), report.as_json()))
    assert answers[0] == answers[1] == answers[2]
    assert {len(set(answer)) for answer in answers[0][:2]} == {2}


def test_hostile_markup_takes_no_time():
    texts = [
        "%" + "0" * 50_000,
        "%" * 50_000,
        "<" * 50_000,
        "{" * 50_000,
        "<a " + "= " * 25_000,
        "%(" * 25_000,
        "&" + "a" * 50_000,
    ]
    table = pa.table(dict(text=texts, lang=["eng_Latn"] * len(texts)))
    assert filters.texts_kept(table, dict(few_letters=0.01), Report()).shape == (len(texts),)


def test_words_and_lengths_of_one_sentence_are_alike_in_all_scripts():
    same = [
        ("eng_Latn", "We now have 4-month-old mice that are non-diabetic that used to be diabetic"),
        ("zho_Hani", "我们现在有四个月大没有糖尿病的老鼠但它们曾经得过该病"),
        ("deu_Latn", "Wir haben jetzt 4 Monate alte Mäuse, die nicht mehr zuckerkrank sind, es aber waren"),
        ("amh_Ethi", "አሁን ላይ የስኳር በሽተኛ የነበሩ አሁን ግን የስኳር በሽተኛ ያልሆኑ የ4 ወር አይጦች አሉን"),
    ]
    found = features.Texts(pa.array([text for _, text in same]), pa.array([lang for lang, _ in same]))
    for measure in (found.num_latin_characters, found.num_words):
        assert np.max(measure) < 1.6 * np.min(measure)
