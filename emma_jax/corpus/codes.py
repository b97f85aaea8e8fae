"""Language codes as sources spell them, made into `xxx_Ssss`.

Owns what a spelling says, what a policy makes of it, why that is doubtful, and why a spelling is refused. The facts
about languages are in `languages`; what the text itself says of its script is found by `scripts`.

Policies, which differ in macro-languages only:

    mala     a language is what the source names, the macro-language (sw: swa) or a member of it (swh), as in the MaLA
             corpora; Mandarin is zho. Groups of languages that those corpora have as one language (bat, nah) are kept.
    members  a macro-language is its principal member, as FLORES has it: swa is swh, ara is arb, zho is cmn
    macro    a member is its macro-language: swh is swa, yue is zho, nob is nor, hrv is hbs

Regions and variants are one language. The script is the one that the spelling names, else the likely one in the region.
"""

import dataclasses
import functools
import re

import iso639
import langcodes
from babel.core import get_global
from langcodes.data_dicts import ALL_SCRIPTS, LANGUAGE_ALPHA3, LANGUAGE_REPLACEMENTS, NORMALIZED_MACROLANGUAGES
from langcodes.tag_parser import parse_tag
from language_data.registry_parser import parse_registry

from emma_jax import languages

POLICIES = ("mala", "members", "macro")
MAX_CHARACTERS = 64  # a longer spelling is text in the wrong column

# Where MaLA's codes are not those of ISO 639-3, which has ajp merged into apc.
MALA = {"cmn": "zho", "ajp": "ajp"}
# Principal members of macro-languages for which FLORES has another one than CLDR, or CLDR none.
FLORES = {"ful": "fuv", "nor": "nob", "pus": "pbt", "que": "quy", "tmh": "taq"}


class RefusedCode(ValueError):
    """A spelling that is no language code; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a spelling stands for.

    `is_script_given` says whether the spelling names the script of `code` itself; `doubts` why the code may be wrong,
    or "".
    """

    code: str
    is_script_given: bool
    doubts: str


@functools.cache
def read(spelling: str, policy: str = "mala") -> Reading:
    """What a spelling stands for under a policy.

    Locale names (`zh_TW.Big5`, `sr@latin`), BCP 47 tags and codes of the form xxx_Ssss are all understood.
    Raises RefusedCode with the reason for anything else.

    >>> read("zh_TW")
    Reading(code='zho_Hani', is_script_given=False, doubts='region TW dropped')
    >>> read("kmr_Latn")
    Reading(code='kmr_Latn', is_script_given=True, doubts='')
    >>> read("templates")
    Traceback (most recent call last):
    emma_jax.corpus.codes.RefusedCode: not a language code
    """
    if policy not in POLICIES:
        near = languages.nearest(policy, POLICIES)
        raise ValueError(f"{policy!r} is no policy for macro-languages{near} (known: {', '.join(POLICIES)})")
    # language[_Territory][.codeset][@modifier], as setlocale(3) has it; codesets say nothing here.
    tag, _, modifier = spelling.strip().partition("@")
    fields = _parse(tag.partition(".")[0])
    named = iso_639_3(fields["language"])
    language = _by_policy(named, policy)
    region, spelt = fields.get("territory", ""), _modifier_script(modifier) or fields.get("script", "")
    script = languages.spelt(spelt or languages.likely_script(named, region))
    if script not in languages.SCRIPTS:
        raise RefusedCode(f"of a script that is not known ({language}_{script})")
    doubts = [
        *_doubts_of_language(named, language, policy),
        f"{spelt} taken as {script}" if spelt not in ("", script) else "",
        f"not usually written in {script}" if script not in languages.scripts(language) else "",
        f"region {region} dropped" if region and _region_matters(named, fields["language"], region) else "",
        *(f"{kind} {fields[kind]} dropped" for kind in ("variant", "private", "extension") if kind in fields),
        f"modifier {modifier} dropped" if modifier and not _modifier_script(modifier) else "",
    ]
    return Reading(f"{language}_{script}", bool(spelt), "; ".join(filter(None, doubts)))


def normalise(spelling: str, policy: str = "mala") -> str:
    """The language code that a source's spelling stands for. Raises RefusedCode with the reason if there is none.

    >>> [normalise(code) for code in ("pt_BR", "zh_Hant", "ca@valencia", "sr@latin", "sw", "jpn_Japn")]
    ['por_Latn', 'zho_Hani', 'cat_Latn', 'srp_Latn', 'swa_Latn', 'jpn_Jpan']
    >>> [[normalise(code, policy) for code in ("sw", "swh", "zh", "yue_Hant", "nb")] for policy in ("members", "macro")]
    [['swh_Latn', 'swh_Latn', 'cmn_Hani', 'yue_Hani', 'nob_Latn'],
     ['swa_Latn', 'swa_Latn', 'zho_Hani', 'zho_Hani', 'nor_Latn']]
    """
    return read(spelling, policy).code


def is_script_given(spelling: str) -> bool:
    """Whether the spelling names its script. Raises RefusedCode as `normalise` does.

    >>> [is_script_given(code) for code in ("sr", "sr_ME", "sr@latin", "srp_Cyrl", "zh-Hant")]
    [False, False, True, True, True]
    """
    return read(spelling).is_script_given


def doubts(spelling: str, policy: str = "mala") -> str:
    """Why the code of a spelling may be wrong, "" if there is no doubt. Raises RefusedCode as `normalise` does.

    >>> [doubts(code) for code in ("de", "bat_Latn", "sr_ME", "cmn")]
    ['', 'stands for a group of languages', 'region ME dropped', 'cmn taken as zho']
    """
    return read(spelling, policy).doubts


def pair_of(spelling: str) -> tuple[str, str]:
    """The two spellings in the name of a pair, as corpora write it.

    Raises ValueError if it is no such name, or could be cut at more than one place.

    >>> pair_of("en-de"), pair_of("en_GB-pt_br"), pair_of("eng_Latn-deu_Latn"), pair_of("zh-Hant-en")
    (('en', 'de'), ('en_GB', 'pt_br'), ('eng_Latn', 'deu_Latn'), ('zh-Hant', 'en'))
    >>> pair_of("readme")
    Traceback (most recent call last):
    ValueError: 'readme' is not the name of a pair; write both languages with one hyphen between them, as in 'en-pt_BR'
    """
    parts = spelling.split("-")
    cuts = [("-".join(parts[:cut]), "-".join(parts[cut:])) for cut in range(1, len(parts))]
    # With one hyphen the form is enough, so that a side which is no language is refused and named later: ze_en-zh.
    accepted = _has_form if len(cuts) == 1 else _is_code
    found = [sides for sides in cuts if all(map(accepted, sides))]
    if len(spelling) > 2 * MAX_CHARACTERS or len(found) != 1:
        raise ValueError(
            f"{spelling[: 2 * MAX_CHARACTERS]!r} is not the name of a pair; "
            "write both languages with one hyphen between them, as in 'en-pt_BR'"
        )
    return found[0]


@functools.cache
def iso_639_3(subtag: str) -> str:
    """The three-letter code of a language by any ISO 639 code: of a group of languages that of ISO 639-2.

    Raises RefusedCode for a code of no language.

    >>> [iso_639_3(code) for code in ("sw", "swa", "ger", "iw", "sh", "bat", "bh")]
    ['swa', 'swa', 'deu', 'heb', 'hbs', 'bat', 'bih']
    """
    for entries in (iso639.Language.from_part3, iso639.Language.from_part1, iso639.Language.from_part2b):
        try:
            entry = entries(subtag)
        except iso639.LanguageNotFoundError:
            continue
        if entry.scope == "S":
            raise RefusedCode("stands for no single language")
        return entry.part3
    if re.fullmatch("q[a-t][a-z]", subtag):
        raise RefusedCode("for private use")
    group = LANGUAGE_ALPHA3.get(subtag, subtag)
    if group in _groups():
        return group
    if len(subtag) == 2 and subtag in LANGUAGE_REPLACEMENTS:  # retired: iw, in, ji, jw, mo
        return iso_639_3(LANGUAGE_REPLACEMENTS[subtag])
    raise RefusedCode("not a language code")


def _parse(tag: str) -> dict[str, str]:
    """Kind of subtag -> subtag, "language" always among them."""
    try:
        fields = dict(parse_tag(tag)) if len(tag) <= MAX_CHARACTERS else {}
    except langcodes.LanguageTagError as error:
        raise RefusedCode("not a language code") from error
    if "grandfathered" in fields:  # zh-min-nan
        fields = {"language": LANGUAGE_REPLACEMENTS.get(fields["grandfathered"], "")}
    if extended := fields.get("extlang"):  # zh-yue is yue, but map-bms is not bms
        prefix = (languages.entry(extended) or languages.entry("und")).macrolanguage
        fields["language"] = extended if prefix == iso_639_3(fields["language"]) else ""
    if not fields.get("language"):
        raise RefusedCode("not a language code")
    return fields


def _by_policy(language: str, policy: str) -> str:
    """The language that the policy has for a language of ISO 639. Raises RefusedCode if it has none."""
    if policy == "mala" and language in MALA:
        return MALA[language]
    if language in _groups():
        if policy != "mala":
            raise RefusedCode("stands for a group of languages")
        return language
    entry = languages.entry(language)
    while entry.retire_change_to:
        entry = languages.entry(entry.retire_change_to)
    if policy == "members":
        return _principal_members().get(entry.part3, entry.part3)
    return (policy == "macro" and entry.macrolanguage) or entry.part3


def _doubts_of_language(named: str, language: str, policy: str) -> list[str]:
    entry = languages.entry(named)
    if entry is None:
        return ["stands for a group of languages"]
    found = []
    if entry.status == "R":
        remedy = f"{entry.retire_change_to} now" if entry.retire_change_to else entry.retire_remedy
        found.append(f"retired from ISO 639-3: {remedy}")
    if language != named:
        found.append(f"{named} taken as {language}")
    elif policy == "members" and entry.scope == "M":
        found.append("a macro-language without a principal member")
    return found


def _region_matters(language: str, subtag: str, region: str) -> bool:
    """Whether CLDR has the region written otherwise: in another script, or with a standard of its own."""
    likely, tag = get_global("likely_subtags"), languages.language_tag(language).language or subtag
    # Not hi_Latn, whose parent is en_IN.
    standards = {child[:-3] for child in get_global("parent_exceptions") if re.fullmatch("[a-z]{2,3}_[A-Z]{2}", child)}
    return f"{tag}_{region}" in likely or tag in standards


@functools.cache
def _principal_members() -> dict[str, str]:
    """Macro-language -> the member that stands for it, by ISO 639-3."""
    found = {
        LANGUAGE_ALPHA3.get(macro, macro): LANGUAGE_ALPHA3.get(member, member)
        for member, macro in NORMALIZED_MACROLANGUAGES.items()
    }
    scopes = {macro: languages.entry(macro).scope for macro in found if languages.entry(macro)}
    # CLDR has bih as a member of bho, which is a language of its own.
    return {macro: found[macro] for macro, scope in scopes.items() if scope == "M"} | FLORES


@functools.cache
def _groups() -> frozenset[str]:
    """The codes of ISO 639-2 and 639-5 for groups of languages."""
    collections = (item["Subtag"] for item in parse_registry() if item.get("Scope") == "collection")
    return frozenset(LANGUAGE_ALPHA3.get(subtag, subtag) for subtag in collections)


@functools.cache
def _modifier_script(modifier: str) -> str:
    """The script that a modifier such as `latin`, `ijekavianlatin` or `Cyrl` names, or ""."""
    names = {name.lower(): script for script, name in languages.SCRIPTS.items()}
    named = max((name for name in names if modifier.lower().endswith(name)), key=len, default="")
    return names.get(named) or (modifier.title() if modifier.title() in ALL_SCRIPTS else "")


def _has_form(spelling: str) -> bool:
    return re.fullmatch(r"[A-Za-z]{2,3}([_@.][A-Za-z0-9]+)*", spelling) is not None


def _is_code(spelling: str) -> bool:
    try:
        return bool(normalise(spelling))
    except RefusedCode:
        return False
