"""Text is made one way of writing, which stays as it is; what is written so already is not touched."""

import random
import unicodedata

import ftfy
import pyarrow as pa
import pytest

from emma_jax.corpus import clean
from emma_jax.corpus.statistics import Report

FORMS = ("sentence", "document", "verbatim")


def normalise(texts, form="sentence", report=None):
    return clean.normalise(pa.chunked_array([texts], pa.string()), form, report).to_pylist()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  two \t words\n", "two words"),
        ("non\u00a0breaking\u2009and\u3000wide", "non breaking and wide"),
        ("e\u0301\u0323", "\u1eb9\u0301"),
        ("\u1112\u1161\u11ab", "\ud55c"),  # Hangul from its letters
        ("\u0958", "\u0915\u093c"),  # NFC takes some letters apart
        ("\ufeffbell\x07 \x85next", "bell next"),
        ("a \x01 b", "a b"),
        ("exam\xadple\ufdd0\U0001fffe", "example"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # a joiner is spelling
        ("abc\u200fאבג", "abc\u200fאבג"),  # and so is a mark of direction
        ("ถ\u0e4d\u0e32", "ถ\u0e4d\u0e32"),  # only NFKC would join these
        ("ﬁne “quotes” ２", "ﬁne “quotes” ２"),
        ("\x00\x1f", ""),
        ("", ""),
    ],
)
def test_normal_sentence(text, normal):
    assert normalise([text]) == [normal]
    assert normalise([normal]) == [normal]


def test_lines_are_kept_for_documents():
    text = "Title \r\n\r\n\r\n\r\n  First\tline\x0b \u2028second\x00\n"
    assert normalise([text], "document") == ["Title\n\nFirst line\nsecond"]
    assert normalise(["a\n \nb\n", "\n\na\n\nb", "a\n\n\nb"], "document") == ["a\n\nb"] * 3


def test_verbatim_text_keeps_its_indentation():
    text = "\n \n  def f():\r\n\treturn 'a  b'  \r\n\n\n\n    # cafe\u0301\x00\u00a0\n \n"
    assert normalise([text], "verbatim") == ["  def f():\n\treturn 'a  b'\n\n\n\n    # café"]


@pytest.mark.parametrize(
    "text",
    [
        "Déjà vu à « l’hôtel » – où ça… très émerveillé",
        "À l'été, naïve œuvre: 5 € chacun, n° 12",
        "Không có kết quả nào được tìm thấy ở đâu",
        "Avaliação de não-fumantes: São João, às 18h",
        "Þetta er íslenska; ég sé það ekki á bænum",
        "Größe über Maß, straße",
        "Привет, как дела? «В гостях» № 5 и её друзья",
        "Їжак і ґанок; є й інші об'єкти",
        "Њега и љубав, џеп, ђак, ћуп",
        "naïve façade à 20°C ±2",
    ],
)
def test_encodings_are_repaired_and_good_text_is_not(text):
    assert normalise([text]) == [text]
    latin = "".join(chr(byte) for byte in text.encode())  # UTF-8 that was read as Latin-1
    report = Report()
    assert normalise([text, latin], report=report) == [text, text]
    assert report.counts["normalise"] == {"unchanged": 1, "repaired": 1}


def test_windows_encodings_are_repaired():
    assert normalise(["cafÃ© â€“ lâ€™Ã©tÃ©", "don\x92t", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚"]) == ["café – l’été", "don’t", "привет"]
    assert normalise(["plain\n\ncafÃ©\n\n  x"], "document") == ["plain\n\ncafé\n\nx"]
    # What can be seen only once a control is gone.
    assert normalise(["cafÃ\x01©"]) == ["café"]


def test_report_counts_texts():
    report = Report()
    normalise(["as it is", "two  spaces", "cafÃ©  au lait", ""], report=report)
    assert report.counts["normalise"] == {"unchanged": 2, "tidied": 1, "repaired": 1}


def test_chunks_and_slices_are_normalised_as_their_texts():
    texts = ["a ", "", " e\u0301", "fine", "\u0301", " "]
    normal = ["a", "", "é", "fine", "\u0301", ""]
    for type_ in (pa.string(), pa.large_string()):
        whole = pa.array(texts, type_)
        chunked = pa.chunked_array([whole.slice(1, 2), whole.slice(0, 0), whole.slice(2)])
        result = clean.normalise(chunked)
        assert result.type == type_ and result.to_pylist() == normal[1:3] + normal[2:]
    assert clean.normalise(pa.chunked_array([], pa.string())).to_pylist() == []


# What NFC, space, controls and wrong encodings are made of, for texts that have much of it.
PIECES = [
    *"aeAEo \n\t\r7.", "\u00a0", "\x85", "\u2028", "\u3000", "\x00", "\x1c", "\x0b", "\x0c", "\x92", "\xad", "\ufeff",
    "\u0301", "\u0323", "\u0327", "\u0345", "ṣ", "ẹ", "ñ", "\u0958", "\u093c", "\u0bc6", "\u0bbe", "\u1100", "\u1161",
    "\u11a8", "\uac00", "\u037e", "\u212b", "\u05b0", "\u05c1", "\u0651", "\u064e", "\u09be", "\u09c7", "\U0001fffe",
    *"Ã©â€™ÐŸÀ\x80í\xa0РСЂв",
]  # fmt: skip


def random_texts(number):
    rng = random.Random(0)
    everything = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    pools = [PIECES, PIECES[:12], everything[:0x3000], everything]
    return ["".join(rng.choices(rng.choice(pools), k=rng.randint(0, 12))) for _ in range(number)]


def reference(text, form):
    """Step by step, each step over the whole text, until none changes it."""
    old = None
    while old != text:
        old = text
        if any(c in clean.LATIN_CONTROLS for c in text) or any(
            a in clean.UTF8_LEADS and b in clean.UTF8_FOLLOWS for a, b in zip(text, text[1:], strict=False)
        ):
            text = "\n".join(ftfy.fix_encoding(line) for line in text.split("\n"))
        dropped = clean.REMOVED + ("\v\f" if form == "verbatim" else "")
        text = "".join(c for c in text if c not in dropped).replace("\r\n", "\n")
        text = unicodedata.normalize("NFC", text)
        if form != "sentence":
            text = "".join("\n" if c in "\r\x85\u2028\u2029" else c for c in text)
        if form == "verbatim":
            lines = [line.rstrip() for line in text.split("\n")]
        else:
            space = [" " if c.isspace() and (c != "\n" or form == "sentence") else c for c in text]
            lines = [" ".join(filter(None, line.split(" "))) for line in "".join(space).split("\n")]
        while lines and not lines[0]:
            lines.pop(0)
        while lines and not lines[-1]:
            lines.pop()
        text = "\n".join(lines)
        while form == "document" and "\n\n\n" in text:
            text = text.replace("\n\n\n", "\n\n")
    return text


@pytest.mark.parametrize("form", FORMS)
def test_normal_form_of_random_text(form):
    texts = random_texts(20_000)
    normal = normalise(texts, form)
    assert normal == [reference(text, form) for text in texts]
    assert normalise(normal, form) == normal


def test_every_character_alone():
    numbers = [*range(0x3000), *range(0x3000, 0xD800, 5), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 9)]
    texts = [f"a{chr(number)}b" for number in numbers]
    assert normalise(texts, "verbatim") == [reference(text, "verbatim") for text in texts]
