"""What filters want to know of texts, each found once, over all characters of a piece of a column.

Owns the measures; what is too much or too little of one is decided by `corpus.filters`.
"""

import dataclasses
import functools
import re

import numpy as np
import pyarrow as pa

from emma_jax import languages
from emma_jax.corpus import characters, scripts

NGRAM = 8  # characters
SPACE, LETTER, DIGIT, BEGINS_MARKUP = 1, 2, 4, 8
SCRIPTS = ("", *scripts.UNICODE.values(), scripts.OTHER)  # as `scripts` numbers them: 0 for what is no letter

# What is not language within a text: placeholders of printf and of braces, tags, entities and addresses. The groups
# hold what a translation must have as well. Flags and widths are bounded, or a line of zeros would take forever.
MARKUP = re.compile(
    r"%\((?P<key>[^()\n]*)\)[#0+ -]{0,5}[\d.]{0,9}[a-zA-Z]"
    r"|%(?:\d+\$)?[#0+-]{0,5}[\d.]{0,9}(?P<conversion>[a-zA-Z])(?![a-zA-Z])"
    r"|\{(?P<field>[^{}\n]*)\}|<(?P<tag>[^<>\n]*)>|&\w+;|https?://\S+"
)
FIELD = re.compile(r"\w*")
TAG = re.compile(r"/?([a-z][a-z0-9-]*)(?:\s.*=.*)?\s*/?", re.IGNORECASE)

# Letters of scripts that say in fewer letters what others say in more, as Latin letters, times ten. From the lengths of
# translations and their English: Chinese and Amharic of SIB-200; Korean, Japanese and Hebrew of Django's, Sphinx's and
# wagtail's catalogs. In both, all scripts that are not here are between 0.8 and 1.2.
DENSITY = {"Han": 30, "Hangul": 20, "Hiragana": 15, "Katakana": 15, "Ethiopic": 15, "Hebrew": 14}
LATIN = 10

# Letters of scripts that put no space between words, as words, times sixty. From the same texts: 1.6 letters of Chinese
# to a word of English, 3.5 of Thai, 2.8 of Khmer, 2.4 of Burmese; of Japanese 2.6, of which 0.6 are Chinese characters.
PART_OF_WORD = {"Han": 36, "Hiragana": 18, "Katakana": 18, "Thai": 17, "Lao": 17, "Khmer": 21, "Myanmar": 24}
PART_OF_WORD |= dict.fromkeys(("Tibetan", "Tai_Tham", "New_Tai_Lue", "Javanese", "Balinese"), 20)
WORD = 60


@dataclasses.dataclass(frozen=True)
class Markup:
    """Pieces of markup: the row of each, the piece itself, and the positions of all their characters."""

    rows: np.ndarray
    matches: list[re.Match]
    positions: np.ndarray


class Texts:
    """A piece of a column of texts, their languages and maybe messages. Its measures have one entry per text."""

    def __init__(self, text: pa.Array, lang: pa.Array, message: pa.Array | None = None):
        self.text, self.lang, self.message = text, lang, message

    @functools.cached_property
    def points(self) -> characters.CodePoints:
        """The texts as code points."""
        return characters.decode(self.text)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Characters."""
        return self.points.lengths

    @functools.cached_property
    def markup(self) -> Markup:
        """What is not language."""
        values, starts = self.points.values, self.points.starts
        begins = self._kinds_with_markup == BEGINS_MARKUP
        begins[:-1] |= (values[:-1] == ord(":")) & (values[1:] == ord("/"))
        rows = np.unique(self.points.rows(np.flatnonzero(begins)))
        # No markup has a line end in it, so that none is found across two texts.
        joined = "\n".join(self.text.take(pa.array(rows)).to_pylist())
        matches = list(MARKUP.finditer(joined))
        first, end = np.array([match.span() for match in matches], np.int64).reshape(-1, 2).T
        ends_joined = np.cumsum(self.lengths[rows] + 1)
        index = np.searchsorted(ends_joined, first, side="right")
        rows, lengths = rows[index], end - first
        first += starts[rows + 1] + 1 - ends_joined[index]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return Markup(rows, matches, np.repeat(first, lengths) + within)

    @functools.cached_property
    def placeholders(self) -> tuple[np.ndarray, list[str]]:
        """The row of each placeholder and tag, and its name."""
        names = [_name(match) for match in self.markup.matches]
        named = np.array([bool(name) for name in names], bool)
        return self.markup.rows[named], [name for name in names if name]

    @functools.cached_property
    def kinds(self) -> np.ndarray:
        """SPACE, LETTER, DIGIT or something else for each character, with spaces in place of markup."""
        result = self._kinds_with_markup.copy()
        result[self.markup.positions] = SPACE
        return result

    @functools.cached_property
    def num_letters(self) -> np.ndarray:
        """Letters and marks outside markup."""
        return self.points.sums(self.kinds == LETTER)

    @functools.cached_property
    def num_visible(self) -> np.ndarray:
        """Characters outside markup that are no space."""
        return self.points.sums(self.kinds != SPACE)

    @functools.cached_property
    def num_letters_of_script(self) -> tuple[np.ndarray, np.ndarray]:
        """Letters outside markup: those in the script of the text's language, and all."""
        lang = self.lang.dictionary_encode()
        own = np.concatenate([_is_of(code) for code in lang.dictionary.to_pylist()] or [np.zeros(0, bool)])
        script_of_letters = characters.lookup(_script_of_letters(), self.points.values)
        script_of_letters[self.markup.positions] = 0
        cells = np.repeat(lang.indices.to_numpy(zero_copy_only=False) * len(SCRIPTS), self.lengths)
        cells += script_of_letters
        return self.points.sums(own.take(cells, mode="clip")), self.points.sums(script_of_letters > 0)

    def have_fewer_ngrams(self, least: float) -> np.ndarray:
        """Whether each text's distinct runs of NGRAM characters are a smaller share than this of all its runs."""
        num = np.maximum(self.lengths - (NGRAM - 1), 0)
        # A slot for each run, which is taken by its hash: so many distinct ones there are at least. As that is 0.63 of
        # them on average if all are distinct, few texts need to be counted.
        hashes = self.points.values * np.uint32(0x9E3779B1)
        for width in (1, 2, 4):  # each step makes runs of twice the width
            hashes = (hashes[:-width] ^ (hashes[:-width] >> np.uint32(15))) * np.uint32(0x85EBCA77) + hashes[width:]
        starts = np.repeat(self.points.starts[:-1], self.lengths)
        slots = ((hashes * np.repeat(num.astype(np.uint64), self.lengths)[: 1 - NGRAM]) >> np.uint64(32)).view(np.int64)
        slots += starts[: 1 - NGRAM]
        taken = np.zeros(len(starts) + 1, bool)
        slots[starts[: 1 - NGRAM] != starts[NGRAM - 1 :]] = len(starts)  # across two texts
        taken[slots] = True
        result = self.points.sums(taken[:-1]) < least * num
        for row in np.flatnonzero(result):
            string = self.text[row].as_py()
            result[row] = len({string[i : i + NGRAM] for i in range(num[row])}) < least * num[row]
        return result

    @functools.cached_property
    def num_latin_characters(self) -> np.ndarray:
        """Characters that the text would have if it were written in Latin letters."""
        return self.points.sums(characters.lookup(_densities(), self.points.values)) / LATIN

    @functools.cached_property
    def num_words(self) -> np.ndarray:
        """Words, where the script has no spaces as many as the text would have in English."""
        return 1 + self.points.sums(characters.lookup(_parts_of_words(), self.points.values)) / WORD

    @functools.cached_property
    def digit_counts(self) -> np.ndarray:
        """`[text, digit]` how often each text has each of the ten digits, in whatever script, outside markup."""
        positions = np.flatnonzero(self.kinds == DIGIT)
        cells = self.points.rows(positions) * 10 + characters.lookup(characters.digits(), self.points.values[positions])
        return np.bincount(cells, minlength=10 * len(self.text)).reshape(-1, 10)

    @functools.cached_property
    def _kinds_with_markup(self) -> np.ndarray:
        return characters.lookup(_kinds(), self.points.values)


@functools.cache
def _kinds() -> np.ndarray:
    """Which characters are spaces, which are letters or marks, and which are digits."""
    of = characters.categories()
    letters = "".join(text for name, text in of.items() if name[0] in "LM")
    return characters.table({SPACE: characters.spaces(), LETTER: letters, DIGIT: of["Nd"], BEGINS_MARKUP: "%{<&"})


@functools.cache
def _is_of(code: str) -> np.ndarray:
    """Whether each script is one that the language is written in."""
    return np.isin(SCRIPTS, languages.SCRIPTS[code[4:]].split())


@functools.cache
def _script_of_letters() -> np.ndarray:
    """The number in SCRIPTS of each letter's script."""
    return scripts.script_of_points()


@functools.cache
def _densities() -> np.ndarray:
    of_scripts = np.array([DENSITY.get(script, LATIN) for script in SCRIPTS], np.uint8)
    return of_scripts[_script_of_letters()]


@functools.cache
def _parts_of_words() -> np.ndarray:
    of_scripts = np.array([PART_OF_WORD.get(script, 0) for script in SCRIPTS], np.uint8)
    result = of_scripts[_script_of_letters()]
    result[ord(" ")] = WORD
    return result


def _name(match: re.Match) -> str:
    """What a translation must have in place of this piece of markup; "" if it need not have it.

    >>> [_name(match) for match in MARKUP.finditer("%(user)s, %2$d of {total:.1f} <b class='x'>files</b> &amp; {a b}")]
    ['%(user)', '%d', '{total}', '<b>', '<b>', '', '']
    """
    group = match.lastgroup
    if group == "key":
        return f"%({match[group]})"
    if group == "conversion":
        return f"%{match[group]}"
    if group == "field":
        field = re.split("[!:,.[]", match[group], maxsplit=1)[0]
        return f"{{{field}}}" if FIELD.fullmatch(field) else ""
    tag = TAG.fullmatch(match[group]) if group == "tag" else None
    return f"<{tag[1].lower()}>" if tag else ""
