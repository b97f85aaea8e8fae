"""What a run is trained on: components with their shares of the tokens, and their tasks; in its workdir.

A run writes it once, so that an export can tell it when the rows are elsewhere or gone. How rows make up a mixture is
`input_pipeline`'s.
"""

import dataclasses
import json
from collections.abc import Sequence

from etils import epath

from emma_jax import languages

VERSION = 1
FILE = "data.json"


@dataclasses.dataclass(frozen=True)
class Task:
    """A task and its share of the tokens of its component's rows."""

    name: str
    share: float


@dataclasses.dataclass(frozen=True)
class Component:
    """A component of the mixture, its share of all tokens, and its tasks."""

    name: str
    share: float
    tasks: tuple[Task, ...]


@dataclasses.dataclass(frozen=True)
class Composition:
    """The components of a run's mixture."""

    components: tuple[Component, ...]

    @property
    def pairs(self) -> list[str]:
        """The language pairs that there are tasks of, each once, sorted.

        >>> tasks = (Task("mono.deu_Latn", 0.5), Task("pair.eng_Latn-swh_Latn", 0.5))
        >>> Composition((Component("all", 1.0, tasks),)).pairs
        ['eng_Latn-swh_Latn']
        """
        return self._names("pair")

    @property
    def languages(self) -> list[str]:
        """The codes of the languages that there are tasks of, alone or in a pair, each once, sorted.

        >>> tasks = (Task("mono.deu_Latn", 0.5), Task("pair.eng_Latn-swh_Latn", 0.5))
        >>> Composition((Component("all", 1.0, tasks),)).languages
        ['deu_Latn', 'eng_Latn', 'swh_Latn']
        """
        return sorted({code for kind in ("mono", "pair") for name in self._names(kind) for code in name.split("-")})

    def _names(self, kind: str) -> list[str]:
        names = (task.name.partition(".") for component in self.components for task in component.tasks)
        return sorted({name for its_kind, _, name in names if its_kind == kind})


def write(workdir, composition: Composition) -> None:
    """Writes the composition to `workdir`, whole or not at all; one that is there already is left alone."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        unfinished = path.with_name(FILE + ".partial")
        content = {"version": VERSION, **dataclasses.asdict(composition)}
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.replace(path)


def read(workdir) -> Composition | None:
    """The composition of the run in `workdir`, or None if it has none; raises ValueError if that is damaged."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']} instead of {VERSION}")
        composition = Composition(tuple(map(_component, content["components"])))
        for code in composition.languages:
            languages.check(code)
        return composition
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it, and start the run again to have it written"
        ) from error


def from_weights(components: Sequence[tuple[str, float, Sequence[tuple[str, float]]]]) -> Composition:
    """A composition of (name, weight, tasks), whose weights, and the weights of whose tasks, become shares.

    >>> from_weights([("code", 1, [("code.a", 30), ("code.b", 10)]), ("book", 3, [("book.a", 7)])]).components[0]
    Component(name='code', share=0.25, tasks=(Task(name='code.a', share=0.75), Task(name='code.b', share=0.25)))
    """
    total = sum(weight for _, weight, _ in components)
    return Composition(tuple(Component(name, weight / total, _tasks(tasks)) for name, weight, tasks in components))


def _tasks(sizes: Sequence[tuple[str, float]]) -> tuple[Task, ...]:
    total = sum(size for _, size in sizes)
    return tuple(Task(name, size / total) for name, size in sizes)


def _component(content: dict) -> Component:
    tasks = tuple(Task(str(task["name"]), float(task["share"])) for task in content["tasks"])
    return Component(str(content["name"]), float(content["share"]), tasks)
