"""What stands around a text in a document: templates of config.rendering, checked and taken apart.

Owns what the config can say of documents. How records become documents is `preprocessors`'; this needs no TensorFlow,
so that plans can be made without it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from emma_jax import languages

DIRECTIONS = ("both", "random", "stored")
LABELS = ("name", "code")
TEXT_MARK = "\0"
PAIR, LANGUAGE = "pair", "mono"  # kinds of tasks whose names hold codes; all others are of collections


class Frame(NamedTuple):
    """What stands before and after a text."""

    before: str
    after: str

    @property
    def num_bytes(self) -> int:
        """Bytes of both in UTF-8."""
        return len((self.before + self.after).encode())

    def around(self, text: str) -> str:
        """The text in its frame."""
        return self.before + text + self.after


def check(rendering: ConfigDict) -> None:
    """Raises ValueError if config.rendering says something that cannot be done."""
    if rendering.direction not in DIRECTIONS:
        raise ValueError(f"config.rendering.direction is {rendering.direction!r}; it can be {', '.join(DIRECTIONS)}")
    if rendering.language_label not in LABELS:
        raise ValueError(
            f"config.rendering.language_label is {rendering.language_label!r}; it can be {', '.join(LABELS)}"
        )
    if rendering.pairs_per_document < 1:
        raise ValueError(f"config.rendering.pairs_per_document is {rendering.pairs_per_document}; it must be 1 or more")
    for task in ("pair.eng_Latn-swh_Latn", *(f"{kind}.eng_Latn" for kind in rendering.documents)):
        frames(task, rendering)


def codes_of(task: str) -> tuple[str, ...]:
    """The languages that a task's documents are in: two of a pair, none of a collection.

    >>> codes_of("pair.eng_Latn-swh_Latn"), codes_of("mono.deu_Latn"), codes_of("code.stack")
    (('eng_Latn', 'swh_Latn'), ('deu_Latn',), ())
    """
    kind, _, name = task.partition(".")
    return tuple(name.split("-")) if kind in (PAIR, LANGUAGE) else ()


def frames(task: str, rendering: ConfigDict) -> tuple[Frame, ...]:
    r"""What stands around each text of a record: of a pair around both sides, otherwise around the one text.

    Raises ValueError if a template does not name {text} once, or names what it cannot.

    >>> rendering = ConfigDict(dict(
    ...     pair_line="[{language}]: {text}\n", language_label="name", documents=dict(mono="{text}", code="# {text}")))
    >>> frames("pair.eng_Latn-quy_Latn", rendering)
    (Frame(before='[English]: ', after='\n'), Frame(before='[Ayacucho Quechua]: ', after='\n'))
    >>> frames("code.stack", rendering), frames("mono.eng_Latn", rendering)
    ((Frame(before='# ', after=''),), (Frame(before='', after=''),))
    """
    kind, codes = task.partition(".")[0], codes_of(task)
    labels = [languages.name(code) if rendering.language_label == "name" else code for code in codes]
    if kind == PAIR:
        return tuple(_frame("pair_line", rendering.pair_line, dict(language=label)) for label in labels)
    values = dict(language=labels[0]) if labels else {}
    return (_frame(f"documents.{kind}", rendering.documents[kind], values),)


def check_labels(task: str, around: Sequence[Frame]) -> None:
    """Raises ValueError if the sides of a pair cannot be told apart."""
    if len(around) > 1 and around[0] == around[1]:
        raise ValueError(
            f"both languages of {task} are called {around[0].before!r} in a document; "
            "set config.rendering.language_label to code"
        )


def _frame(key: str, template: str, values: dict[str, str]) -> Frame:
    try:
        parts = template.format(text=TEXT_MARK, **values).split(TEXT_MARK)
    except (KeyError, IndexError, ValueError) as error:
        names = " and ".join(f"{{{name}}}" for name in (*values, "text"))
        raise ValueError(f"config.rendering.{key} {template!r} is no template of {names} ({error})") from error
    if len(parts) != 2:
        raise ValueError(f"config.rendering.{key} {template!r} must name {{text}} once")
    return Frame(*parts)
