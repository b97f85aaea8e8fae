"""Language codes `xxx_Ssss`: what is one, its English name, its script, and its resource class by size.

A code is ISO 639-3 and ISO 15924 joined by an underscore. Owns the facts about codes; how the spellings of a source
become codes is the business of `corpus.codes`. What languages there are is ISO 639-3's word (python-iso639), how they
are written CLDR's (the likely scripts in Babel, all others in language_data), what they are called langcodes'.
"""

import difflib
import functools
import importlib.resources
import re
import xml.etree.ElementTree
from collections.abc import Iterable, Mapping

import iso639
import langcodes
from babel.core import get_global
from langcodes.data_dicts import NORMALIZED_MACROLANGUAGES

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

# How the corpora of the field spell scripts, beside what CLDR calls a variant or subset of one (Hans is Hani).
SPELT = {"Kore": "Hang", "Japn": "Jpan"}

# Where the published corpora show that CLDR's likely script is not what a language is written in now: CLDR has ancient
# scripts of arc, the Soviet one of crh, newly made ones of ctd, hnj, nst and suz, the neighbours' of cjs, cmo, muv and
# thy, and no eee.
WRITTEN_IN = {
    "arc": "Syrc", "cjs": "Cyrl", "cmo": "Khmr", "crh": "Latn", "ctd": "Latn", "eee": "Thai", "hnj": "Latn",
    "muv": "Mlym", "nst": "Latn", "suz": "Deva", "thy": "Thai",
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
    if not well_formed or code[4:] not in SCRIPTS or not (language_tag(code[:3]).is_valid() or entry(code[:3])):
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
def entry(language: str) -> iso639.Language | None:
    """The entry of a three-letter code in ISO 639-3, retired ones among them; None if it has none.

    >>> entry("swh").macrolanguage, entry("ajp").retire_change_to, entry("bat")
    ('swa', 'apc', None)
    """
    try:
        return iso639.Language.from_part3(language)
    except iso639.LanguageNotFoundError:
        return None


@functools.cache
def likely_script(language: str, region: str = "") -> str:
    """The script that a language is mostly written in, in a region if one is given; Latin where nothing is known.

    >>> likely_script("swh"), likely_script("zho"), likely_script("kor"), likely_script("prs")
    ('Latn', 'Hani', 'Hang', 'Arab')
    >>> likely_script("srp"), likely_script("srp", "ME"), likely_script("hbs")
    ('Cyrl', 'Latn', 'Latn')
    """
    # The script of an alias comes first: hbs is sr-Latn.
    if script := WRITTEN_IN.get(language) or langcodes.Language.get(language).script:
        return spelt(script)
    likely = get_global("likely_subtags")
    for tag in _tags(language):
        if found := likely.get(f"{tag}_{region}") or likely.get(tag):
            return spelt(found.split("_")[1])
        if len(_cldr()["main"].get(tag, ())) == 1:
            return min(_cldr()["main"][tag])
    return "Latn"


@functools.cache
def scripts(language: str) -> frozenset[str]:
    """The scripts that a language is known to be written in.

    A script that CLDR calls secondary counts unless it is Latin or Han: those are romanisations and Chinese of the
    past, and text in them is mostly English or Chinese that has been taken for the language.

    >>> sorted(scripts("srp")), sorted(scripts("uzn")), sorted(scripts("mni")), sorted(scripts("zho"))
    (['Cyrl', 'Latn'], ['Arab', 'Cyrl', 'Latn'], ['Beng', 'Mtei'], ['Bopo', 'Hani'])
    """
    main, secondary = _cldr()["main"], _cldr()["secondary"]
    tag = next((tag for tag in _tags(language) if tag in main or tag in secondary), "")
    found = main.get(tag, set()) | (secondary.get(tag, set()) - {"Latn", "Hani"}) | {likely_script(language)}
    return frozenset(found & SCRIPTS.keys())


@functools.cache
def spelt(script: str) -> str:
    """The script as the corpora of the field spell it.

    >>> [spelt(script) for script in ("Hant", "Aran", "Kore", "Japn", "Latn")]
    ['Hani', 'Arab', 'Hang', 'Jpan', 'Latn']
    """
    return _cldr()["variants"].get(script, script)


@functools.cache
def name(code: str) -> str:
    """The English name of a language, with its script where that is not the usual one.

    >>> [name(code) for code in ("zho_Hani", "swh_Latn", "srp_Cyrl", "srp_Latn", "eml_Latn")]
    ['Chinese', 'Swahili (individual language)', 'Serbian', 'Serbian (Latin)', 'Emiliano-Romagnolo']
    """
    language, script = code.split("_")
    tag = language_tag(language)
    own = NAMES.get(language) or (
        tag.language_name() if tag.is_valid() or not entry(language) else entry(language).name
    )
    return own if script == likely_script(language) else f"{own} ({SCRIPTS[script].replace('_', ' ')})"


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


def class_key(label: str) -> str:
    """A resource class as a key of a config; "" of a collection, which has none, stays.

    >>> class_key("very low"), class_key("medium-high")
    ('very_low', 'medium_high')
    """
    return label.replace(" ", "_").replace("-", "_")


def _tags(language: str) -> list[str]:
    """What CLDR may have data of a language under: itself, what it is an alias of, its macro-language."""
    tag, alias, known = language_tag(language).language, langcodes.Language.get(language).language, entry(language)
    tags = [tag, alias, NORMALIZED_MACROLANGUAGES.get(tag)]
    if known and known.macrolanguage:
        tags.append(language_tag(known.macrolanguage).language)
    return [tag for tag in dict.fromkeys(tags) if tag]


@functools.cache
def _cldr() -> dict[str, Mapping]:
    """Language -> its main and its secondary scripts, and script -> the script that it is a variant or subset of."""
    path = importlib.resources.files("language_data") / "data" / "supplementalData.xml"
    root = xml.etree.ElementTree.fromstring(path.read_bytes())
    variants = {
        element.get("id"): element.get("base")
        for element in root.iter("scriptVariant")
        if element.get("type") != "compound"
    }
    variants |= SPELT
    tables = {"main": {}, "secondary": {}}
    for element in root.iter("language"):
        kind = "secondary" if element.get("alt") else "main"
        spellings = element.get("scripts", "").split()
        tables[kind].setdefault(element.get("type"), set()).update(variants.get(script, script) for script in spellings)
    return tables | {"variants": variants}
