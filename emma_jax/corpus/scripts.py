"""The script of texts by their letters, and language codes set right by it.

Owns the counting of letters per script and the decision between the script that a code names and that of the text. The
letters of a script are those that Arrow's regular expressions know, so that the filters of `clean` count the same ones;
letters that scripts share, such as the Japanese sign of a long vowel, are of none.
"""

import dataclasses
import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import languages
from emma_jax.corpus import characters

# ISO 15924 -> the Unicode script. Where `languages.SCRIPTS` has several for what a language is written in, one by one.
UNICODE = {"Hani": "Han", "Hang": "Hangul", "Hira": "Hiragana", "Kana": "Katakana"} | {
    script: name
    for script, name in languages.SCRIPTS.items()
    if " " not in name and script not in ("Hans", "Hant")
}  # fmt: skip
OTHER = "Zzzz"  # letters of any other script
SCRIPTS = (*UNICODE, OTHER)
# What texts are written in, as the corpora spell it.
WRITTEN = (*(script for script in SCRIPTS if script not in ("Hira", "Kana")), "Jpan")

# Han letters are Japanese or Korean if at least this share of them and of kana (or of hangul) are kana (or hangul):
# a sign of a Japanese shop does not make a Chinese sentence Japanese.
MIN_SYLLABLE_SHARE = 0.1

# A text says its script if it has some letters, which brand names and abbreviations mostly do not reach, and most of
# them are of that script: nearly all where the source says another one.
MIN_LETTERS = 5
MIN_SHARE, MIN_SHARE_AGAINST_SOURCE = 0.5, 0.9


@dataclasses.dataclass(frozen=True)
class Letters:
    """`by_script[text, script]` letters, in the order of SCRIPTS."""

    by_script: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The letters of each text, of whatever script."""
        return self.by_script.sum(axis=1)

    def of(self, script: str) -> np.ndarray:
        """The letters of each text that are of one script."""
        return self.by_script[:, SCRIPTS.index(script)]


def count(text: pa.Array | pa.ChunkedArray) -> Letters:
    """The letters of each text by script; none of a null.

    >>> letters = count(pa.array(["Привет, world!", "123", None]))
    >>> letters.of("Cyrl").tolist(), letters.of("Latn").tolist(), letters.total.tolist()
    ([6, 0, 0], [5, 0, 0], [11, 0, 0])
    """
    column = text if isinstance(text, pa.ChunkedArray) else pa.chunked_array([text])
    pieces = characters.pieces({"text": column.fill_null("")})
    counts = [_count_piece(piece["text"]) for _, piece in pieces]
    return Letters(np.concatenate([np.zeros((0, len(SCRIPTS)), np.int32), *counts]))


def dominant(text: pa.Array | pa.ChunkedArray) -> pa.Array:
    """ISO 15924 of the script that most letters of each text are of; "" where there are no letters.

    Japanese is Jpan and Korean Hang, with their Han letters; Chinese is Hani.

    >>> dominant(pa.array(["Да, PC", "東京タワー", "東京", "漢字와 한글", "", "42"])).to_pylist()
    ['Cyrl', 'Jpan', 'Hani', 'Hang', '', '']
    """
    written, index = _written(count(text))
    names = pa.array([*WRITTEN, ""])
    return names.take(pa.array(np.where(written.any(axis=1), index, len(WRITTEN))))


def resolve(lang: pa.Array | pa.ChunkedArray, given: np.ndarray, text: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The codes, in the script that the text is in where the source is silent on it or wrong.

    `lang` are codes xxx_Ssss, and `given` says of each whether the source named the script (`codes.Reading`). The
    script of the text counts if the language is known to be written in it; a code stays otherwise, for the filters to
    drop the text.

    >>> lang, given = ["srp_Cyrl", "srp_Cyrl", "uzb_Latn", "rus_Cyrl"], np.array([False, True, True, False])
    >>> text = ["Dobar dan svima", "Добар dan свима", "Ассалому алайкум", "Good morning"]
    >>> resolve(pa.array(lang), given, pa.array(text)).to_pylist()
    ['srp_Latn', 'srp_Cyrl', 'uzb_Cyrl', 'rus_Cyrl']
    """
    lang = lang.combine_chunks() if isinstance(lang, pa.ChunkedArray) else lang
    named = lang.dictionary_encode() if not isinstance(lang, pa.DictionaryArray) else lang
    of_row, distinct = named.indices.to_numpy(zero_copy_only=False), named.dictionary.to_pylist()
    known = np.array([[script in languages.scripts(code[:3]) for script in WRITTEN] for code in distinct], bool)
    known = known.reshape(-1, len(WRITTEN))
    # Most languages have one script, which no text can change: their letters need not be counted.
    several = np.array([bool(languages.scripts(code[:3]) - {code[4:]}) for code in distinct], bool)
    rows = np.flatnonzero(several[of_row])
    written, index = _written(count(text.take(pa.array(rows))))
    total, most = written.sum(axis=1), written.max(axis=1)
    least = np.where(np.asarray(given)[rows], MIN_SHARE_AGAINST_SOURCE, MIN_SHARE) * total
    decided = (total >= MIN_LETTERS) & (most >= least) & known[of_row[rows], index]
    # A name for each script, and a last one for the code as it is.
    names = pa.array([f"{code[:3]}_{script}" for code in distinct for script in WRITTEN] + distinct, pa.string())
    chosen = known.size + of_row.astype(np.int64)
    chosen[rows[decided]] = of_row[rows[decided]].astype(np.int64) * len(WRITTEN) + index[decided]
    return names.take(pa.array(chosen))


def _written(letters: Letters) -> tuple[np.ndarray, np.ndarray]:
    """`[text, script]` letters in the order of WRITTEN, and the script that most letters of each text are of."""
    han, hangul, kana = letters.of("Hani"), letters.of("Hang"), letters.of("Hira") + letters.of("Kana")
    japanese = (kana > 0) & (kana >= MIN_SYLLABLE_SHARE * (kana + han))
    korean = (hangul > 0) & (hangul >= MIN_SYLLABLE_SHARE * (hangul + han)) & ~japanese
    columns = {script: letters.of(script) for script in WRITTEN if script in SCRIPTS}
    columns["Jpan"] = np.where(japanese, kana + han, 0)
    columns["Hang"] = hangul + np.where(korean, han, 0)
    columns["Hani"] = np.where(korean | japanese, 0, han) + np.where(japanese, 0, kana)
    written = np.stack([columns[script] for script in WRITTEN], axis=1)
    return written, written.argmax(axis=1)


def _count_piece(text: pa.Array) -> np.ndarray:
    """`[text, script]` letters of texts that are none of them null."""
    points = characters.decode(text)
    # Script 0 is no letter.
    num_scripts = len(SCRIPTS) + 1
    keys = np.repeat(np.arange(len(text)) * num_scripts, points.lengths)
    keys += characters.lookup(script_of_points(), points.values)
    counts = np.bincount(keys, minlength=len(text) * num_scripts)
    return counts.reshape(-1, num_scripts)[:, 1:].astype(np.int32)


@functools.cache
def script_of_points() -> np.ndarray:
    """Code point -> 1 + the number of its script in SCRIPTS, 0 if it is no letter or one that scripts share."""
    points = np.delete(np.arange(0x110000, dtype=np.uint32), np.s_[0xD800:0xE000])
    num_bytes = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    offsets = np.concatenate([[0], np.cumsum(num_bytes)]).astype(np.int32)
    content = points.tobytes().decode("utf-32-le").encode()
    characters = pa.StringArray.from_buffers(len(points), pa.py_buffer(offsets), pa.py_buffer(content))
    table = np.zeros(0x110000, np.uint8)
    is_letter = pc.and_not(_match(characters, r"\pL"), _match(characters, r"[\p{Common}\p{Inherited}]"))
    characters, points = characters.filter(is_letter), points[is_letter.to_numpy(zero_copy_only=False)]
    for number, name in enumerate(UNICODE.values(), 1):
        found = _match(characters, rf"\p{{{name}}}")
        table[points[found.to_numpy(zero_copy_only=False)]] = number
        rest = pc.invert(found)
        characters, points = characters.filter(rest), points[rest.to_numpy(zero_copy_only=False)]
    table[points] = 1 + SCRIPTS.index(OTHER)
    return table


def _match(characters: pa.Array, pattern: str) -> pa.Array:
    return pc.match_substring_regex(characters, pattern)
