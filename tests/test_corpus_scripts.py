"""Letters are counted by script as Unicode has them; a code takes the script of the text where it may."""

import random
import unicodedata

import numpy as np
import pyarrow as pa
import pytest

from emma_jax import languages
from emma_jax.corpus import characters, scripts

# What no script shares: the words of `unicodedata.name` that begin the names of a script's letters.
NAMES = {
    "LATIN": "Latn", "CYRILLIC": "Cyrl", "GREEK": "Grek", "ARABIC": "Arab", "DEVANAGARI": "Deva", "THAI": "Thai",
    "HIRAGANA": "Hira", "KATAKANA": "Kana", "HANGUL": "Hang", "CJK": "Hani", "ETHIOPIC": "Ethi", "OL": "Olck",
    "ADLAM": "Adlm", "GEORGIAN": "Geor", "GOTHIC": "Goth",
}  # fmt: skip
TEXTS = [
    "Plain English.",
    "Русский текст",
    "mixed текст",
    "日本語のテキスト",
    "漢字",
    "한국어 漢字",
    "ᱥᱟᱱᱛᱟᱲᱤ",
    "𐌰𐌱𐌲 αβγ",
    "",
    "42 !",
]


def expected(text):
    counts = np.zeros(len(scripts.SCRIPTS), int)
    for character in text:
        if unicodedata.category(character).startswith("L"):
            script = NAMES[unicodedata.name(character).split()[0]]
            counts[scripts.SCRIPTS.index(script)] += 1
    return counts.tolist()


def test_letters_are_those_of_unicode():
    assert scripts.count(pa.array(TEXTS)).by_script.tolist() == [expected(text) for text in TEXTS]


def test_every_script_of_the_languages_is_counted():
    for script in languages.SCRIPTS:
        if script not in ("Hans", "Hant", "Jpan"):
            assert script in scripts.WRITTEN
            assert scripts.script_of_points().tolist().count(scripts.SCRIPTS.index(script) + 1) > 0, script


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_nulls_slices_and_chunks_count_as_their_texts(type_):
    texts = [None, *TEXTS, None]
    counts = [expected(text or "") for text in texts]
    whole = pa.array(texts, type_)
    assert scripts.count(whole).by_script.tolist() == counts
    assert scripts.count(whole.slice(3, 5)).by_script.tolist() == counts[3:8]
    chunked = pa.chunked_array([whole.slice(2, 3), whole.slice(0, 0), whole.slice(5)])
    assert scripts.count(chunked).by_script.tolist() == counts[2:]
    for empty in (whole.slice(0, 0), pa.array([], type_), pa.chunked_array([], type_)):
        assert scripts.count(empty).by_script.shape == (0, len(scripts.SCRIPTS))
    assert scripts.count(pa.array([None, None], type_)).total.tolist() == [0, 0]
    assert scripts.count(pa.array(["", ""], type_)).total.tolist() == [0, 0]


def test_large_batches_are_counted_in_slices(monkeypatch):
    texts = random.Random(0).choices(TEXTS, k=500)
    whole = scripts.count(pa.array(texts)).by_script.tolist()
    monkeypatch.setattr(characters, "PIECE_BYTES", 20)  # less than the longest text
    monkeypatch.setattr(characters, "PIECE_ROWS", 3)
    assert scripts.count(pa.array(texts)).by_script.tolist() == whole == [expected(text) for text in texts]


def test_letters_that_scripts_share_are_of_none():
    assert scripts.count(pa.array(["ーー", "ªª", "µ"])).total.tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("日本語のテキスト", "Jpan"), ("テスト", "Jpan"), ("東京都", "Hani"), ("我们去の店里面有很多东西", "Hani"),
        ("한국어", "Hang"), ("漢字와 漢字", "Hang"), ("Windows をインストールします", "Jpan"), ("ܫܠܡܐ", "Syrc"),
        ("ascii текст длиннее", "Cyrl"), ("𐀀𐀁𐀂", "Zzzz"), ("", ""), ("1234 …", ""), (None, ""),
    ],
)  # fmt: skip
def test_dominant_script(text, script):
    assert scripts.dominant(pa.array([text], pa.string())).to_pylist() == [script]


def resolve(code, given, text):
    return scripts.resolve(pa.array([code]), np.array([given]), pa.array([text], pa.string()))[0].as_py()


@pytest.mark.parametrize(
    ("code", "text", "code_of_text"),
    [
        ("srp_Cyrl", "Dobar dan", "srp_Latn"), ("uzb_Latn", "Ассалому алайкум", "uzb_Cyrl"),
        ("kur_Latn", "سڵاو هاوڕێیان", "kur_Arab"), ("mni_Beng", "ꯃꯩꯇꯩꯂꯣꯟ ꯃꯩꯇꯩꯂꯣꯟ", "mni_Mtei"),
        # Not written so: the filters drop the text.
        ("rus_Cyrl", "Good morning", "rus_Cyrl"), ("zho_Hani", "Good morning", "zho_Hani"),
        ("eng_Latn", "Доброе утро", "eng_Latn"), ("vie_Latn", "今天天氣很好", "vie_Latn"),
        # Says too little.
        ("srp_Cyrl", "PDF", "srp_Cyrl"), ("srp_Cyrl", "", "srp_Cyrl"), ("srp_Cyrl", "2024", "srp_Cyrl"),
        ("srp_Cyrl", None, "srp_Cyrl"),
    ],
)  # fmt: skip
def test_script_of_the_text_counts_where_the_language_has_it(code, text, code_of_text):
    assert resolve(code, False, text) == code_of_text
    assert resolve(code, True, text) == code_of_text


def test_named_script_yields_to_nearly_all_letters_only():
    two_thirds = "Отворите Microsoft Office"
    assert resolve("srp_Cyrl", False, two_thirds) == "srp_Latn"
    assert resolve("srp_Cyrl", True, two_thirds) == "srp_Cyrl"


def test_named_script_of_the_text_stays_though_unusual():
    assert resolve("hin_Latn", True, "Aap kaise hain") == "hin_Latn"
    assert resolve("hin_Latn", True, "आप कैसे हैं दोस्त") == "hin_Deva"


def test_codes_are_resolved_row_by_row():
    codes = ["srp_Cyrl", "eng_Latn", "srp_Cyrl", "uzb_Latn"]
    text = ["Dobar dan", "Good day", "Добар дан", "Салом дунё"]
    result = ["srp_Latn", "eng_Latn", "srp_Cyrl", "uzb_Cyrl"]
    given = np.array([False, True, True, False])
    for lang in (pa.array(codes), pa.array(codes).dictionary_encode(), pa.chunked_array([codes[:1], codes[1:]])):
        assert scripts.resolve(lang, given, pa.chunked_array([text[:2], text[2:]])).to_pylist() == result
    empty = scripts.resolve(pa.array([], pa.string()), np.zeros(0, bool), pa.array([], pa.string()))
    assert empty.type == pa.string()
    assert len(empty) == 0
