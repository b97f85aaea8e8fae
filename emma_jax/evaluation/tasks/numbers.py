"""The filter `number` of lm-evaluation-harness: the number that answers a question of arithmetic, in any script.

The harness's own filter `flexible-extract` takes the last run of ASCII digits, points and commas: it reads no digits of
other scripts, takes "18.00" for 1800, and where a model goes on after its answer, what comes last.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_filter

FILTER = "number"
NONE = "[invalid]"  # as the harness has it
# Separators of thousands and decimals: of ASCII, Arabic, and spaces where three digits follow.
NUMBER = re.compile(r"(?:(?<![\d)])[-\u2212])?\d+(?:(?:[.,\u066b\u066c'\u2019]\d+)|(?:[ \u00a0\u202f]\d{3}(?!\d)))*")
NEAR = 24  # characters that may stand between the words that announce an answer and its number


@register_filter(FILTER)
class NumberFilter(Filter):
    """Keeps of each response the number that answers, as digits; `[invalid]` where there is none, or no whole one.

    `question` is the word that begins a question: what follows it is another one. With `first_line` the answer is the
    last number of the first line that has any. Otherwise it is the number after one of `phrases`, the last if there are
    several, or else the last number.
    """

    def __init__(self, question: str, phrases: Sequence[str] = (), first_line: bool = False) -> None:
        self.question, self.phrases, self.first_line = question, tuple(phrases), first_line

    def apply(self, resps: Iterable[Sequence[str]], docs) -> list[list[str]]:
        """The answers, in the shape of the responses."""
        return [[answer(text, self.question, self.phrases, self.first_line) for text in texts] for texts in resps]


def answer(text: str, question: str, phrases: Sequence[str] = (), first_line: bool = False) -> str:
    """The answer of one response, as `NumberFilter` says.

    >>> answer("১৮ টাকা\\nপ্রশ্ন: 5", "প্রশ্ন:", first_line=True)
    '18'
    >>> answer("3 + 4 = 7, 答えは、１，２５０円です。次は 9", "問題：", ["答えは"])
    '1250'
    >>> answer("about 18.50 dollars", "Question:")
    '[invalid]'
    """
    text = unicodedata.normalize("NFKC", text)
    question = unicodedata.normalize("NFKC", question).strip()
    text = text.split(question)[0]
    if first_line:
        found = next((numbers for line in text.splitlines() if (numbers := NUMBER.findall(line))), [])
    else:
        found = _announced(text, phrases) or NUMBER.findall(text)
    return whole(found[-1]) if found else NONE


def whole(number: str) -> str:
    """The digits of a number as written, without separators; `[invalid]` if it is not whole.

    A separator is of decimals if it comes once, or last of two kinds, and not before three digits.

    >>> [whole(n) for n in ("1,250", "1.250", "1.250,00", "1,00,000", "18.00", "0.125", "18.5", "\u0967\u0968")]
    ['1250', '1250', '1250', '100000', '18', '[invalid]', '[invalid]', '12']
    """
    sign = "-" if number[0] in "-\u2212" else ""
    parts, separators = re.findall(r"\d+", number), re.findall(r"[^\d]", number[len(sign) :])
    is_decimal = bool(separators) and (
        len(parts[-1]) != 3 or parts[0] == "0" or (len(separators) > 1 and separators[-1] not in separators[:-1])
    )
    decimals = int(parts.pop()) if is_decimal else 0
    return NONE if decimals else sign + str(int("".join(parts)))


def _announced(text: str, phrases: Sequence[str]) -> list[str]:
    """The numbers that come shortly after one of the phrases, in the order of the text."""
    words = "|".join(re.escape(unicodedata.normalize("NFKC", phrase).strip()) for phrase in phrases)
    if not words:
        return []
    ends = [match.end() for match in re.finditer(words, text, re.IGNORECASE)]
    matches = [NUMBER.search(text, end) for end in ends]
    return [m.group() for m, end in zip(matches, ends, strict=True) if m and m.start() - end <= NEAR]
