"""Language codes `xxx_Ssss`: what is one, its English name, the letters of its script, and its resource class by size.

A code is ISO 639-3 and ISO 15924 joined by an underscore. Owns the facts about codes; how the spellings of a source
become codes is the business of `corpus.codes`.
"""

import difflib
import functools
import re
from collections.abc import Iterable

import langcodes
from langcodes.data_dicts import LIKELY_SUBTAGS

ENGLISH = "eng_Latn"

# ISO 15924 -> the Unicode scripts that write it, as RE2 names them.
SCRIPTS = {
    "Adlm": "Adlam", "Arab": "Arabic", "Armn": "Armenian", "Bali": "Balinese", "Bamu": "Bamum", "Beng": "Bengali",
    "Bopo": "Bopomofo", "Bugi": "Buginese", "Cakm": "Chakma", "Cans": "Canadian_Aboriginal", "Cham": "Cham",
    "Cher": "Cherokee", "Copt": "Coptic", "Cyrl": "Cyrillic", "Deva": "Devanagari", "Ethi": "Ethiopic",
    "Geor": "Georgian", "Goth": "Gothic", "Grek": "Greek", "Gujr": "Gujarati", "Guru": "Gurmukhi", "Hang": "Hangul Han",
    "Hani": "Han", "Hans": "Han", "Hant": "Han", "Hebr": "Hebrew", "Hmnp": "Nyiakeng_Puachue_Hmong", "Java": "Javanese",
    "Jpan": "Han Hiragana Katakana", "Kali": "Kayah_Li", "Khmr": "Khmer", "Knda": "Kannada", "Lana": "Tai_Tham",
    "Laoo": "Lao", "Latn": "Latin", "Lepc": "Lepcha", "Limb": "Limbu", "Lisu": "Lisu", "Mlym": "Malayalam",
    "Mong": "Mongolian", "Mtei": "Meetei_Mayek", "Mymr": "Myanmar", "Newa": "Newa", "Nkoo": "Nko", "Olck": "Ol_Chiki",
    "Orya": "Oriya", "Osge": "Osage", "Plrd": "Miao", "Rohg": "Hanifi_Rohingya", "Runr": "Runic", "Saur": "Saurashtra",
    "Sinh": "Sinhala", "Sund": "Sundanese", "Sylo": "Syloti_Nagri", "Syrc": "Syriac", "Tale": "Tai_Le",
    "Talu": "New_Tai_Lue", "Taml": "Tamil", "Telu": "Telugu", "Tfng": "Tifinagh", "Thaa": "Thaana", "Thai": "Thai",
    "Tibt": "Tibetan", "Vaii": "Vai", "Yiii": "Yi",
}  # fmt: skip

# How the corpora of the field spell scripts that CLDR and MaLA spell otherwise.
SPELT = {"Hans": "Hani", "Hant": "Hani", "Kore": "Hang", "Aran": "Arab", "Japn": "Jpan"}

# Languages of published corpora whose script CLDR does not say, or says otherwise than people write now. All others
# that CLDR does not know are taken to be in Latin letters, as nearly all of those corpora are.
WRITTEN_IN = {
    language: script
    for script, languages in {
        "Arab": "acm afb ajp azb mve odk pbt prs tks uzs", "Armn": "hyw", "Deva": "anp aph lhm suz syw tdb the ybh ybi",
        "Cyrl": "cjs eve evn gld kim kjh kpy mns niv nog rut tab xal yrk yux", "Grek": "grc", "Khmr": "brb cmo krr tpu",
        "Laoo": "brv", "Latn": "ctd hnj", "Mlym": "muv pcg udg yea", "Mong": "mvf", "Mymr": "blk ksw pce rki",
        "Orya": "gbj", "Syrc": "arc", "Thai": "bzi eee thy",
    }.items()
    for language in languages.split()
}  # fmt: skip

# Languages that langcodes takes for others (Serbian, Filipino), with their own names.
NAMES = {"hbs": "Serbo-Croatian", "tgl": "Tagalog"}

# Whitespace tokens from which a class begins, as the published tables of the MaLA corpora have them.
LANGUAGE_CLASSES = (
    ("high", 10**9), ("medium-high", 10**8), ("medium", 10**7), ("medium-low", 10**6), ("low", 10**5), ("very low", 0),
)  # fmt: skip
PAIR_CLASSES = (
    ("very high", 10**10), ("high", 10**9), ("medium-high", 5 * 10**8), ("medium", 10**8), ("medium-low", 10**7),
    ("low", 10**6), ("very low", 0),
)  # fmt: skip


def check(code: str, known: Iterable[str] = ()) -> str:
    """The code itself; `known` are codes to look for the nearest in, should it be wrong.

    Raises ValueError if it is not `xxx_Ssss` of a language in ISO 639-3 and a script that is known here.

    >>> check("swh_Latn")
    'swh_Latn'
    >>> check("deu_Latin", known=["eng_Latn", "deu_Latn"])
    Traceback (most recent call last):
    ValueError: 'deu_Latin' is not a language code of the form xxx_Ssss; is deu_Latn meant?
    """
    well_formed = re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", code)
    if not well_formed or code[4:] not in SCRIPTS or not language_tag(code[:3]).is_valid():
        fault = "of a language and a script that are known" if well_formed else "of the form xxx_Ssss"
        raise ValueError(f"{code!r} is not a language code {fault}{nearest(code, known)}")
    return code


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message that names the nearest known word, or nothing where none is near.

    >>> nearest("swa_Latin", ["deu_Latn", "swh_Latn", "swa_Latn"])
    '; is swa_Latn meant?'
    """
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.4)
    return f"; is {near[0]} meant?" if near else ""


@functools.cache
def language_tag(language: str) -> langcodes.Language:
    """The tag of a language by any ISO 639 code, its members apart from their macro-language."""
    tag = langcodes.Language.get(language, normalize=False)
    # CLDR has data under the shortest code only, so "deu" must become "de"; but "swh" must not become "sw".
    return tag if tag.is_valid() else langcodes.Language.get(language)


@functools.cache
def likely_script(language: str) -> str:
    """The script that a language is mostly written in; Latin where nothing is known.

    >>> likely_script("swh"), likely_script("zho"), likely_script("kor"), likely_script("prs")
    ('Latn', 'Hani', 'Hang', 'Arab')
    """
    if language in WRITTEN_IN:
        return WRITTEN_IN[language]
    macro = langcodes.Language.get(language).prefer_macrolanguage()
    for tag in (language_tag(language).language, macro.language):
        if tag in LIKELY_SUBTAGS:
            script = macro.script or LIKELY_SUBTAGS[tag].split("-")[1]
            return SPELT.get(script, script)
    return "Latn"


@functools.cache
def name(code: str) -> str:
    """The English name of a language, with its script where that is not the usual one.

    >>> [name(code) for code in ("zho_Hani", "swh_Latn", "srp_Cyrl", "srp_Latn")]
    ['Chinese', 'Swahili (individual language)', 'Serbian', 'Serbian (Latin)']
    """
    language, script = code.split("_")
    spelt = NAMES.get(language) or language_tag(language).language_name()
    return spelt if script == likely_script(language) else f"{spelt} ({SCRIPTS[script].replace('_', ' ')})"


def letters(code: str) -> str:
    """An RE2 class of the letters and marks that a text of this language is written in.

    >>> letters("kor_Hang")
    '[\\\\p{Hangul}\\\\p{Han}]'
    """
    return "[" + "".join(rf"\p{{{script}}}" for script in SCRIPTS[code[4:]].split()) + "]"


def language_class(num_tokens: int) -> str:
    """The resource class of a language by the whitespace tokens of its text; the paper leaves the last class out.

    >>> language_class(100_000), language_class(99_999)
    ('low', 'very low')
    """
    return next(label for label, least in LANGUAGE_CLASSES if num_tokens >= least)


def pair_class(num_tokens: int) -> str:
    """The resource class of a pair by the whitespace tokens of both sides.

    >>> pair_class(2 * 10**10), pair_class(15)
    ('very high', 'very low')
    """
    return next(label for label, least in PAIR_CLASSES if num_tokens >= least)
