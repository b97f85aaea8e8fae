"""Language codes as sources spell them, made into `xxx_Ssss`.

Two-letter codes become what ISO 639-3 has for them, which is the macro-language where there is one (sw: swa, ar: ara),
as in the MaLA corpora; a member that a source names (swh, arb) stays a member. Regions and variants are dropped: they
are one language here. The script is the one that the source names, else the likely one.
"""

import functools

import langcodes

from emma_jax import languages

# ISO 639 codes of no single language, and codes that the corpora of the field do not use for what they mean.
NO_LANGUAGE = ("mis", "mul", "und", "zxx")
REPLACED = {"cmn": "zho", "mol": "ron"}


class RefusedCode(ValueError):
    """A spelling that is no language code; the message is the reason."""


@functools.cache
def normalise(spelling: str) -> str:
    """The language code that a source's spelling stands for.

    Locale names (`zh_TW.Big5`, `sr@latin`), BCP 47 tags and codes of the form xxx_Ssss are all understood.
    Raises RefusedCode with the reason for anything else.

    >>> [normalise(code) for code in ("pt_BR", "zh_Hant", "ca@valencia", "sr@latin", "sw", "jpn_Japn")]
    ['por_Latn', 'zho_Hani', 'cat_Latn', 'srp_Latn', 'swa_Latn', 'jpn_Jpan']
    >>> normalise("templates")
    Traceback (most recent call last):
    emma_jax.corpus.codes.RefusedCode: not a language code
    """
    # language[_Territory][.codeset][@modifier], as setlocale(3) has it; codesets and most modifiers say nothing here.
    tag, _, modifier = spelling.strip().partition("@")
    try:
        parsed = langcodes.Language.get(tag.partition(".")[0], normalize=False)
        language = _language(parsed.language or "und")
    except (langcodes.LanguageTagError, LookupError) as error:
        raise RefusedCode("not a language code") from error
    if language in NO_LANGUAGE:
        raise RefusedCode("stands for no single language")
    script = _modifier_script(modifier) or parsed.script or languages.likely_script(language)
    try:
        return languages.check(f"{language}_{languages.SPELT.get(script, script)}")
    except ValueError as error:
        raise RefusedCode(f"of a language or script that is not known ({language}_{script})") from error


def _language(subtag: str) -> str:
    """ISO 639-3 of the language part of a tag."""
    tag = languages.language_tag(subtag)
    if not tag.is_valid():
        raise LookupError(subtag)
    language = subtag if subtag in languages.NAMES else tag.to_alpha3()
    return REPLACED.get(language, language)


def _modifier_script(modifier: str) -> str:
    """The script that a modifier such as `latin` or `Cyrl` names, or ""."""
    names = {name.lower(): script for script, name in languages.SCRIPTS.items()}
    return names.get(modifier.lower()) or (modifier.title() if modifier.title() in languages.SCRIPTS else "")
