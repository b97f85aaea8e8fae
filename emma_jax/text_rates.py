"""How many bytes a word has, and how many tokens a byte: estimates for text that is known by its size alone.

Owns the numbers in `text_rates.csv`, measured with the vocabulary of Llama 3 on the Universal Declaration of Human
Rights, one text that exists in hundreds of languages. They serve to plan; what is there is measured instead.
"""

import csv
import functools
import importlib.resources
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from emma_jax import languages

FILE = "text_rates.csv"
BYTES_PER_TOKEN = 4.0  # of text of which no language is known: between English, 5, and code, 3 to 4


class Rate(NamedTuple):
    """UTF-8 bytes between two whitespaces, tokens of Llama 3 per byte, bytes of a text relative to it in English."""

    bytes_per_word: float
    tokens_per_byte: float
    relative_bytes: float


def of(code: str) -> Rate:
    """The rate of a language; if it was not measured, of its macro-language, of its script, or of all scripts.

    >>> of("eng_Latn")
    Rate(bytes_per_word=6.04, tokens_per_byte=0.188, relative_bytes=1.0)
    >>> of("swc_Latn") == of("swa_Latn"), of("tat_Cyrl").bytes_per_word > of("tat_Latn").bytes_per_word
    (True, True)
    """
    known = languages.entry(code[:3])
    macro = f"{known.macrolanguage}{code[3:]}" if known else ""
    table = _table()
    return table.get(code) or table.get(macro) or table.get(code[4:]) or table[""]


def tokens_per_byte(codes: Sequence[str]) -> float:
    """Of a text, or of texts that say the same, in these languages; of one in no language, if there are none.

    >>> round(tokens_per_byte(["eng_Latn"]), 3), round(tokens_per_byte(["eng_Latn", "hin_Deva"]), 3)
    (0.188, 0.196)
    """
    if not codes:
        return 1 / BYTES_PER_TOKEN
    rates = [of(code) for code in codes]
    tokens = sum(rate.relative_bytes * rate.tokens_per_byte for rate in rates)
    return tokens / sum(rate.relative_bytes for rate in rates)


@functools.cache
def _table() -> dict[str, Rate]:
    """Rates by code, those of scripts by medians, that of all under ""."""
    text = importlib.resources.files("emma_jax").joinpath(FILE).read_text()
    rows = {row.pop("code"): Rate(*map(float, row.values())) for row in csv.DictReader(text.splitlines())}
    by_script: dict[str, list[Rate]] = {"": list(rows.values())}
    for code, rate in rows.items():
        by_script.setdefault(code[4:], []).append(rate)
    medians = {
        script: Rate(*(statistics.median(values) for values in zip(*rates, strict=True)))
        for script, rates in by_script.items()
    }
    return rows | medians
