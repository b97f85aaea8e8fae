"""Filters: what a text, and what a pair of texts, must be like to be kept.

A filter is a function named by the reason that is counted. It says which rows to drop, by a threshold that stands under
its name in `config.corpus.filters`; a filter whose threshold is 0 or False, or is not there, does not run. Filters run
in the order of their table: a record that fails two is counted at the first.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emma_jax import languages
from emma_jax.corpus import characters
from emma_jax.corpus.features import NGRAM, Texts
from emma_jax.corpus.statistics import KEPT, Report

TEXTS, SIDES, PAIRS = "clean_texts", "clean_sides", "clean_pairs"  # stages in the report
# Added to both sides before they are compared: "OK" may well be three words in another language. Of the catalogs of
# Django, Sphinx and wagtail, 0.4% of pairs differ more than threefold without, and 0.005% with it.
SLACK_CHARACTERS, SLACK_WORDS = 10, 2

SHARES = ("few_letters", "wrong_script", "repeated_ngrams", "placeholder_mismatch", "number_mismatch")
RATIOS = ("length_ratio", "word_ratio")

Thresholds = Mapping[str, float]
Filter = Callable[..., np.ndarray]  # of Texts, or of two Texts, and a threshold: which rows to drop


def check(sections: Mapping[str, Thresholds]) -> None:
    """Raises ValueError if a threshold of `config.corpus.filters` cannot be meant.

    >>> check({"documents": {"few_letters": 30.0}})
    Traceback (most recent call last):
    ValueError: config.corpus.filters.documents.few_letters is 30.0; it is a share, from 0 to 1
    """
    for section, thresholds in sections.items():
        for name, threshold in thresholds.items():
            if name in SHARES and not 0 <= threshold <= 1:
                raise ValueError(f"config.corpus.filters.{section}.{name} is {threshold}; it is a share, from 0 to 1")
            if threshold < 0 or (name in RATIOS and 0 < threshold < 1):
                least = "1, or 0 for no such filter," if name in RATIOS else "0"
                raise ValueError(f"config.corpus.filters.{section}.{name} is {threshold}; {least} is the least")


def texts_kept(table: pa.Table, thresholds: Thresholds, report: Report, stage: str = TEXTS) -> np.ndarray:
    """For each row of a table of `text, lang` and maybe `message`, whether it passes the filters of texts.

    Texts that are one side of pairs are counted by themselves, at the stage SIDES.

    >>> report = Report()
    >>> table = pa.table({"text": ["Aye", "", "100 %"], "lang": ["sco_Latn"] * 3})
    >>> texts_kept(table, dict(empty=True, too_long=9, few_letters=0.3), report).tolist()
    [True, False, False]
    >>> dict(report.counts["clean_texts"])
    {'empty': 1, 'few_letters': 1, 'kept': 1}
    """
    names = [name for name in ("text", "lang", "message") if name in table.column_names]
    return _kept(table, names, lambda piece: (Texts(**piece),), TEXT_FILTERS, stage, thresholds, report)


def pairs_kept(table: pa.Table, thresholds: Thresholds, report: Report) -> np.ndarray:
    """For each row of a table of `src_text, tgt_text, src_lang, tgt_lang`, whether it passes the filters of pairs.

    >>> table = pa.table({"src_text": ["Page 1 of %s", "Seite 1"], "tgt_text": ["Seite 1 von %d", "Page 1"],
    ...                   "src_lang": ["eng_Latn", "deu_Latn"], "tgt_lang": ["deu_Latn", "eng_Latn"]})
    >>> pairs_kept(table, dict(placeholder_mismatch=0.5), Report()).tolist()
    [False, True]
    """

    def sides(piece):
        return tuple(Texts(piece[f"{side}_text"], piece[f"{side}_lang"]) for side in ("src", "tgt"))

    names = ("src_text", "tgt_text", "src_lang", "tgt_lang")
    return _kept(table, names, sides, PAIR_FILTERS, PAIRS, thresholds, report)


def empty(texts: Texts, _) -> np.ndarray:
    """Has no character."""
    return texts.lengths == 0


def too_short(texts: Texts, least: float) -> np.ndarray:
    """Has fewer characters than the threshold."""
    return texts.lengths < least


def too_long(texts: Texts, most: float) -> np.ndarray:
    """Has more characters than the threshold."""
    return texts.lengths > most


def undecodable(texts: Texts, _) -> np.ndarray:
    """Has U+FFFD, which stands where someone before us could not decode a character."""
    return pc.match_substring(texts.text, "\ufffd").to_numpy(zero_copy_only=False)


def few_letters(texts: Texts, least: float) -> np.ndarray:
    """Letters and marks are a smaller share than the threshold of what is no markup and no space; or there are none."""
    return texts.num_letters < np.maximum(least * texts.num_visible, 1)


def wrong_script(texts: Texts, least: float) -> np.ndarray:
    """Letters of the language's script are a smaller share than the threshold of the letters outside markup."""
    own, all_letters = texts.num_letters_of_script
    return own < least * all_letters


def repeated_ngrams(texts: Texts, least: float) -> np.ndarray:
    """Distinct runs of 8 characters are a smaller share than the threshold of all such runs.

    A text of fewer than 16 characters has too few runs to tell.
    """
    return texts.have_fewer_ngrams(least) & (texts.lengths >= 2 * NGRAM)


def untranslated(texts: Texts, _) -> np.ndarray:
    """The same as its message in English, under another language; for tables that have a `message`."""
    if texts.message is None:
        return np.zeros(len(texts.text), bool)
    same = pc.equal(texts.text, texts.message)
    return pc.and_(same, pc.not_equal(texts.lang, languages.ENGLISH)).to_numpy(zero_copy_only=False)


def identical_sides(src: Texts, tgt: Texts, _) -> np.ndarray:
    """Both sides are the same text."""
    return pc.equal(src.text, tgt.text).to_numpy(zero_copy_only=False)


def length_ratio(src: Texts, tgt: Texts, most: float) -> np.ndarray:
    """One side is more than the threshold times as long as the other, in characters of a Latin text."""
    return _ratio(src.num_latin_characters, tgt.num_latin_characters, SLACK_CHARACTERS) > most


def word_ratio(src: Texts, tgt: Texts, most: float) -> np.ndarray:
    """One side has more than the threshold times as many words as the other."""
    return _ratio(src.num_words, tgt.num_words, SLACK_WORDS) > most


def placeholder_mismatch(src: Texts, tgt: Texts, least: float) -> np.ndarray:
    """Placeholders and tags that both sides have are a smaller share than the threshold of those of either side."""
    (src_rows, src_names), (tgt_rows, tgt_names) = src.placeholders, tgt.placeholders
    names = {name: number for number, name in enumerate(sorted({*src_names, *tgt_names}))}
    pairs = [
        rows * len(names) + np.array([names[name] for name in found], np.int64)
        for rows, found in ((src_rows, src_names), (tgt_rows, tgt_names))
    ]
    # One number for each name in each row that has it, and how often either side has it.
    kinds, inverse = np.unique(np.concatenate(pairs), return_inverse=True)
    counts = [np.bincount(side, minlength=len(kinds)) for side in np.split(inverse, [len(pairs[0])])]
    rows = kinds // max(len(names), 1)
    common, either = (np.bincount(rows, n, len(src.text)) for n in (np.minimum(*counts), np.maximum(*counts)))
    return common < least * either


def number_mismatch(src: Texts, tgt: Texts, least: float) -> np.ndarray:
    """Both sides have digits outside markup, and those they share are a smaller share than the threshold of all.

    It is digits that are compared, in whatever order: languages write the same number with other separators, and dates
    in another order. On pairs of SIB-200, true and shuffled, this told more than to compare numbers as wholes.
    """
    common = np.minimum(src.digit_counts, tgt.digit_counts).sum(1)
    of_src, of_tgt = src.digit_counts.sum(1), tgt.digit_counts.sum(1)
    return (2 * common < least * (of_src + of_tgt)) & (of_src > 0) & (of_tgt > 0)


TEXT_FILTERS: tuple[Filter, ...] = (
    empty, too_short, too_long, undecodable, few_letters, wrong_script, repeated_ngrams, untranslated,
)  # fmt: skip
PAIR_FILTERS: tuple[Filter, ...] = (identical_sides, length_ratio, word_ratio, placeholder_mismatch, number_mismatch)


def _ratio(first: np.ndarray, second: np.ndarray, slack: float) -> np.ndarray:
    first, second = first + slack, second + slack
    return np.maximum(first, second) / np.minimum(first, second)


def _kept(
    table: pa.Table, names: Sequence[str], sides: Callable, filters: tuple[Filter, ...], stage: str,
    thresholds: Thresholds, report: Report,
) -> np.ndarray:  # fmt: skip
    filters = [drops for drops in filters if thresholds.get(drops.__name__)]
    failed = np.full(len(table), len(filters))  # the first filter that drops each row
    for first, piece in characters.pieces({name: table[name] for name in names}):
        texts = sides(piece)
        of_piece = failed[first : first + len(texts[0].text)]
        for number, drops in reversed(list(enumerate(filters))):
            of_piece[drops(*texts, thresholds[drops.__name__])] = number
    for number, drops in enumerate(filters):
        report.drop(stage, drops.__name__, table, failed == number)
    kept = failed == len(filters)
    report.count(stage, KEPT, kept.sum())
    return kept
