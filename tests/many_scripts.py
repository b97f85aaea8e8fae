"""Text in more scripts than any corpus has: translations, names of languages, drawn letters, emoji and controls.

It is the same in every run on one version of Python and of the packages that it comes from.
"""

import importlib.util
import pathlib
import random
from collections.abc import Mapping

import langcodes
import polib
import regex
from langcodes.data_dicts import LIKELY_SUBTAGS

from emma_jax import languages

CATALOGS = {"django": "conf/locale/*/LC_MESSAGES/django.po", "sphinx": "locale/*/LC_MESSAGES/sphinx.po"}
SCRIPTS = sorted({script for scripts in languages.SCRIPTS.values() for script in scripts.split()})
CHARACTERS = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)  # a text cannot have the others
CONTROLS = regex.findall(r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]", CHARACTERS)
EMOJI = regex.findall(r"\p{Extended_Pictographic}", CHARACTERS)
PEOPLE = regex.findall(r"\p{Emoji_Modifier_Base}", CHARACTERS)
SKIN_TONES = regex.findall(r"\p{Emoji_Modifier}", CHARACTERS)
FLAG_LETTERS = regex.findall(r"\p{Regional_Indicator}", CHARACTERS)
JOINER, VARIANT, KEYCAP = "\u200d", "\ufe0f", "\u20e3"
LINES = 12  # of a document


def documents() -> list[str]:
    """More than a million characters: documents of some lines, and texts of a few characters."""
    rng = random.Random(0)
    lines = [*messages(CATALOGS), *names(), *drawn(rng, 40)]
    joined = ["\n".join(lines[i : i + LINES]) for i in range(0, len(lines), LINES)]
    return joined + emoji(rng, 1000) + controls() + mixed(rng, 3000)


def messages(catalogs: Mapping[str, str]) -> list[str]:
    """What catalogs of installed packages say, package -> pattern of paths in it; each message once."""
    found = {}
    for package, pattern in catalogs.items():
        root = pathlib.Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(root.glob(pattern)):
            for entry in polib.pofile(str(path)):
                found.update(dict.fromkeys([entry.msgid, entry.msgstr, *entry.msgstr_plural.values()]))
    return [text for text in found if text]


def names() -> list[str]:
    """What languages are called in themselves, as far as that is known."""
    tags = sorted({tag.split("-")[0] for tag in LIKELY_SUBTAGS} - {"und"})
    return [langcodes.Language.get(tag).autonym() for tag in tags]


def drawn(rng: random.Random, number: int) -> list[str]:
    """Lines of each script, whose words are any of its letters, marks and digits."""
    lines = []
    for script in SCRIPTS:
        letters = regex.findall(rf"[\p{{Script={script}}}&&[\p{{L}}\p{{M}}\p{{N}}]]", CHARACTERS, regex.V1)
        for _ in range(number):
            lines.append(" ".join("".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(12)))
    return lines


def emoji(rng: random.Random, number: int) -> list[str]:
    """Every emoji; then drawn: skin tones, families and professions, flags of countries and of regions, keycaps."""
    texts = ["".join(EMOJI), *EMOJI]
    for _ in range(number):
        toned = rng.choice(PEOPLE) + rng.choice(SKIN_TONES)
        joined = JOINER.join(rng.choices(EMOJI, k=rng.randint(2, 4)))
        flag = "".join(rng.choices(FLAG_LETTERS, k=2))
        region = "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in rng.choices("abcdefgh", k=5)) + "\U000e007f"
        parts = [toned, toned + JOINER + rng.choice(EMOJI) + VARIANT, joined, flag, region, f"7{VARIANT}{KEYCAP}"]
        texts.append(rng.choice(["", " ", "a"]).join(rng.sample(parts, 4)))
    return texts


def controls() -> list[str]:
    """Every control and format character: alone, doubled, in a word, in a number, and beside spaces and newlines."""
    patterns = ["{0}", "{0}{0}", "a{0}b", "1{0}2", " {0} ", "\n{0}\n", "{0}\r\n{0}", "'{0}s"]
    return [pattern.format(character) for character in CONTROLS for pattern in patterns] + ["".join(CONTROLS)]


def mixed(rng: random.Random, number: int) -> list[str]:
    """Runs of anything, unassigned and private characters too, and of what tokenizers treat in ways of their own."""
    special = [" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u2581", "'s", "'LL", "'\u017f", "\u0130", "0", "12345", "!"]
    texts = []
    for _ in range(number):
        letters = rng.choice([CHARACTERS, CHARACTERS[:0x3000], special, special])
        texts.append("".join(rng.choices(letters, k=rng.randint(1, 40))))
    return texts
