"""Normalising text and filtering by text alone: what a sentence, and what a pair, must be like to be kept.

Filters are named by the reason that is counted, and run in the order of their table: a text that fails two is counted
at the first. All work is on Arrow columns. Thresholds are `config.corpus.filters`.
"""

import unicodedata
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import languages
from emma_jax.corpus.statistics import KEPT, Report

# What is not language within a text: printf and brace placeholders, tags, entities and addresses.
MARKUP = r"%\([^()]*\)[#0+ -]*[\d.]*[a-zA-Z]|%[#0+-]*[\d.]*[a-zA-Z]|\{[^{}]*\}|<[^<>]*>|&\w+;|https?://\S+"

Thresholds = Mapping[str, float]


def normalise(text: pa.ChunkedArray, keep_lines: bool = False) -> pa.ChunkedArray:
    """Text in NFC without control characters, with single spaces and none at the ends.

    Line breaks become spaces too unless lines are kept. Joiners and direction marks stay: they are spelling.

    >>> normalise(pa.chunked_array([["Cafe\\u0301\\u00a0 \\n au lait\\x07 "]])).to_pylist()
    ['Café au lait']
    >>> normalise(pa.chunked_array([["one \\r\\n\\n\\n two"]]), keep_lines=True).to_pylist()
    ['one\\n\\ntwo']
    """
    # Not by Arrow's utf8_normalize, which gives NFD whatever one asks for (apache/arrow issue 51225).
    text = pa.chunked_array([[unicodedata.normalize("NFC", string) for string in text.to_pylist()]], pa.string())
    if keep_lines:
        text = pc.replace_substring_regex(text, r"[\t\v\f\p{Zs}]+", " ")
        text = pc.replace_substring_regex(text, r" ?(?:\r\n|[\r\n\x{85}\x{2028}\x{2029}]) ?", "\n")
        text = pc.replace_substring_regex(text, r"[^\P{Cc}\n]|\x{FEFF}", "")
        text = pc.replace_substring_regex(text, r"\n{3,}", "\n\n")
    else:
        text = pc.replace_substring_regex(text, r"[\s\v\x{85}\pZ]+", " ")
        text = pc.replace_substring_regex(text, r"[\p{Cc}\x{FEFF}]", "")
    return pc.utf8_trim_whitespace(text)


def texts_kept(table: pa.Table, thresholds: Thresholds, report: Report) -> np.ndarray:
    """For each row of a table of `text, lang` and maybe `message`, whether it passes all filters of texts.

    >>> report = Report()
    >>> table = pa.table({"text": ["Aye", "", "100 %"], "lang": ["sco_Latn"] * 3})
    >>> limits = dict(min_characters=1, max_characters=9, min_letter_share=0.3, min_script_share=0.5)
    >>> texts_kept(table, limits, report).tolist(), dict(report.counts["clean_texts"])
    ([True, False, False], {'too_short': 1, 'few_letters': 1, 'kept': 1})
    """
    return _kept(table, TEXT_FILTERS, "clean_texts", thresholds, report)


def pairs_kept(table: pa.Table, thresholds: Thresholds, report: Report) -> np.ndarray:
    """For each row of a table of `src_text, tgt_text`, whether it passes all filters of pairs."""
    return _kept(table, PAIR_FILTERS, "clean_pairs", thresholds, report)


def too_short(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """Fewer than `min_characters`; one drops what is empty."""
    return _numbers(pc.utf8_length(table["text"])) < thresholds["min_characters"]


def too_long(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """More than `max_characters`."""
    return _numbers(pc.utf8_length(table["text"])) > thresholds["max_characters"]


def undecodable(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """Has U+FFFD, which stands where someone before us could not decode a character."""
    return _numbers(pc.match_substring(table["text"], "\ufffd"))


def few_letters(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """Letters and marks are less than `min_letter_share` of what is no markup and no space."""
    text = _without_markup(table["text"])
    return _count(text, r"[\pL\pM]") < np.maximum(thresholds["min_letter_share"] * _count(text, r"[^\s\pZ]"), 1)


def wrong_script(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """Letters of the language's script are less than `min_script_share` of the letters outside markup."""
    text, lang = _without_markup(table["text"]), table["lang"].combine_chunks().dictionary_encode()
    of_language, wrong = lang.indices.to_numpy(zero_copy_only=False), np.zeros(len(table), bool)
    for index, code in enumerate(lang.dictionary.to_pylist()):
        rows = np.flatnonzero(of_language == index)
        own = text.take(pa.array(rows))
        num_letters = _count(own, r"\pL")
        wrong[rows] = _count(own, languages.letters(code)) < thresholds["min_script_share"] * num_letters
    return wrong


def untranslated(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """The same as its message in English, under another language; for tables that have a `message`."""
    if "message" not in table.column_names:
        return np.zeros(len(table), bool)
    same = pc.equal(table["text"], table["message"])
    return _numbers(pc.and_(same, pc.not_equal(table["lang"], languages.ENGLISH)))


def identical_sides(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """Both sides are the same text."""
    return _numbers(pc.equal(table["src_text"], table["tgt_text"]))


def length_ratio(table: pa.Table, thresholds: Thresholds) -> np.ndarray:
    """One side has more than `max_length_ratio` times the characters of the other."""
    src, tgt = (_numbers(pc.utf8_length(table[side])) for side in ("src_text", "tgt_text"))
    return np.maximum(src, tgt) > thresholds["max_length_ratio"] * np.minimum(src, tgt)


Filter = Callable[[pa.Table, Thresholds], np.ndarray]  # which rows to drop
TEXT_FILTERS: tuple[Filter, ...] = (too_short, too_long, undecodable, few_letters, wrong_script, untranslated)
PAIR_FILTERS: tuple[Filter, ...] = (identical_sides, length_ratio)


def _kept(
    table: pa.Table, filters: tuple[Filter, ...], stage: str, thresholds: Thresholds, report: Report
) -> np.ndarray:
    kept = np.ones(len(table), bool)
    for drops in filters:
        dropped = kept & drops(table, thresholds)
        report.count(stage, drops.__name__, dropped.sum())
        kept &= ~dropped
    report.count(stage, KEPT, kept.sum())
    return kept


def _without_markup(text: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(text, MARKUP, " ")


def _count(text: pa.ChunkedArray, letters: str) -> np.ndarray:
    """How many characters of each text are in an RE2 class."""
    # By what is left without them: RE2 takes a run at once, where counting would match letter by letter.
    rest = pc.replace_substring_regex(text, f"{letters}+", "")
    return _numbers(pc.utf8_length(text)) - _numbers(pc.utf8_length(rest))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
