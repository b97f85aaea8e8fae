"""What a config would pack and a run would read of it, before anything is written: `plan-<run>.json` and its summary.

Owns the arithmetic from a run's tokens to tokens and epochs of each task, to bytes and hours. How tokens are divided is
`shares`', the work itself `pack_plan`'s, the picture `pack_page`'s. Needs no TensorFlow and, for the paper's corpus, no
text and no tokenizer.
"""

import dataclasses
import json
import math
import os
import statistics
from collections.abc import Iterable, Sequence

from data_tasks import mixtures, rendering, sizes
from emma_jax import pack_plan, paper_corpus, progress, tokenizer
from emma_jax.reporting.elements import BYTES, short

VERSION = 1
FILL = 0.995  # of rows, by best fit at 8,192 tokens
ROW_TOKEN_BYTES = 1.5  # of a token in a shard: 1.2 to 1.4 on prose, code and declarations in 500 languages (measured)
EXCHANGE_TOKEN_BYTES = 4.0  # of a token on its way, which is there until its component is packed
TOKENIZER_BYTES_PER_SECOND = 2.5e6  # of text per core, by the tokenizer alone: on a virtual core of 2025, Llama 3's
TOKENIZER_SHARE = 0.7  # of pack's time that the tokenizer takes at most


@dataclasses.dataclass(frozen=True)
class Task:
    """A task: tokens in one epoch, those that go into rows, and those that the run reads of them."""

    name: str
    resource_class: str
    size: float
    tokens: int
    run_tokens: float

    @property
    def epochs(self) -> float:
        """How often the rows hold the task."""
        return self.tokens / self.size if self.size else 0.0

    @property
    def run_epochs(self) -> float:
        """How often the run sees it."""
        return self.run_tokens / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class Component:
    """A component: its share of the run (0: not in the mixture), the tokens that were wanted of it, its tasks.

    `assumed` says that the sizes of its tasks are not known, so that their epochs say nothing.
    """

    name: str
    share: float
    wanted: int
    tasks: tuple[Task, ...]
    assumed: bool

    @property
    def tokens(self) -> int:
        """Tokens in its rows."""
        return sum(task.tokens for task in self.tasks)

    @property
    def run_tokens(self) -> float:
        """Tokens that the run reads of it."""
        return sum(task.run_tokens for task in self.tasks)

    def by_class(self) -> dict[str, tuple[Task, ...]]:
        """Tasks of each resource class, the largest class first."""
        order = sorted({task.resource_class for task in self.tasks}, key=lambda label: -self._largest(label))
        return {label: tuple(task for task in self.tasks if task.resource_class == label) for label in order}

    def _largest(self, label: str) -> float:
        return max(task.size for task in self.tasks if task.resource_class == label)


@dataclasses.dataclass(frozen=True)
class Budget:
    """All components, and what packing them takes; `is_estimated` says that no text was measured."""

    run: str
    corpus: str
    steps: int
    run_tokens: int
    row_length: int
    components: tuple[Component, ...]
    is_estimated: bool
    text_bytes: float
    core_seconds: float
    num_workers: int

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(component.tokens for component in self.components)

    def rows(self, component: Component) -> int:
        """Rows that a component fills."""
        return math.ceil(component.tokens / (self.row_length * FILL))

    @property
    def tasks(self) -> list[tuple[Component, Task]]:
        """Every task with its component."""
        return [(component, task) for component in self.components for task in component.tasks]


def make(config) -> Budget:
    """The budget of a config: of its run, if it has steps, and of its components.

    Tokens of tasks are measured on some of their records; those of the paper's corpus are estimated.

    Raises ValueError for what `pack` would refuse of the config, the corpus and the tokenizer.
    """
    rendering.check(config.rendering)
    components, corpus = mixtures.resolved(config.pack), paper_corpus.load(config.corpus.folder)
    is_estimated = config.corpus.folder == paper_corpus.NAME
    known = sizes.of_corpus(corpus, config.rendering)
    classes = {name: entry.resource_class for name, entry in corpus.tasks.items()}
    mixtures.rates(known, classes, config.mixture, components)  # what cannot be mixed is refused
    names = {component: mixtures.matching(component, section.tasks, known) for component, section in components.items()}
    used = list(dict.fromkeys(name for of_component in names.values() for name in of_component))
    if is_estimated:
        found = {name: sizes.estimated(name, known[name], config.rendering) for name in used}
    else:
        found = _measured(used, known, corpus, config)

    run_tokens = config.train.steps * config.input_pipeline.batch_rows * config.pack.row_length
    planned = []
    for component, section in components.items():
        task_sizes = {name: found[name].tokens for name in names[component]}
        plan = pack_plan.training_plan(component, section, task_sizes, classes, config.pack, "", config.seed)
        part = config.mixture.get(component, 0.0) / (sum(config.mixture.values()) or 1.0)
        tasks = tuple(
            Task(draw.name, classes[draw.name], draw.size, draw.tokens, part * run_tokens * draw.share)
            for draw in plan.draws
        )
        assumed = any(paper_corpus.ASSUMED in corpus.tasks[name].sources for name in names[component])
        planned.append(Component(component, part, section.tokens, tasks, is_estimated and assumed))

    text_bytes = sum(task.epochs * known[task.name].bytes for component in planned for task in component.tasks)
    return Budget(
        run=config.run_name or "unnamed",
        corpus=config.corpus.folder,
        steps=config.train.steps,
        run_tokens=run_tokens,
        row_length=config.pack.row_length,
        components=tuple(sorted(planned, key=lambda component: -component.tokens)),
        is_estimated=is_estimated,
        text_bytes=text_bytes,
        core_seconds=text_bytes / _bytes_per_core_second(found.values()),
        num_workers=config.pack.num_workers,
    )


def _measured(names: Sequence[str], known, corpus, config) -> dict[str, sizes.Measured]:
    text, found = tokenizer.load(config.tokenizer.folder), {}
    with progress.follow("tasks measured", len(names), lambda: len(found)):
        for name in names:
            found[name] = sizes.measured(corpus, text, config.rendering, name, known[name])
    return found


def _bytes_per_core_second(found: Iterable[sizes.Measured]) -> float:
    """Of text, of one worker: as the tokenizer did on the samples, or as it is known to do."""
    seconds, num_bytes = (sum(getattr(each, key) for each in found) for key in ("seconds", "sample_bytes"))
    alone = num_bytes / seconds / (os.cpu_count() or 1) if seconds else TOKENIZER_BYTES_PER_SECOND
    return TOKENIZER_SHARE * alone


def to_json(budget: Budget) -> str:
    """The budget with what follows from it; a task is a line."""
    content = {"version": VERSION} | {
        key: getattr(budget, key)
        for key in ("run", "corpus", "steps", "run_tokens", "row_length", "is_estimated", "tokens", "text_bytes")
    }
    content |= {
        "store_bytes": round(budget.tokens * ROW_TOKEN_BYTES),
        "exchange_bytes": round(budget.tokens * EXCHANGE_TOKEN_BYTES),
        "core_seconds": round(budget.core_seconds),
        "components": [
            {
                **{key: getattr(component, key) for key in ("name", "share", "wanted", "tokens", "assumed")},
                "run_tokens": round(component.run_tokens),
                "rows": budget.rows(component),
                "store_bytes": round(component.tokens * ROW_TOKEN_BYTES),
            }
            for component in budget.components
        ],
    }
    tasks = [
        json.dumps(
            {
                "component": component.name,
                "task": task.name,
                "resource_class": task.resource_class,
                "size": round(task.size),
                "tokens": task.tokens,
                "epochs": float(f"{task.epochs:.6g}"),
                "run_tokens": round(task.run_tokens),
                "run_epochs": float(f"{task.run_epochs:.6g}"),
            }
        )
        for component, task in budget.tasks
    ]
    return json.dumps(content, indent=1)[:-2] + ',\n "tasks": [\n  ' + ",\n  ".join(tasks) + "\n ]\n}\n"


def summary(budget: Budget) -> str:
    """What a person wants to know of a budget, as lines of text."""
    estimated = ", sizes estimated from its numbers" if budget.is_estimated else ""
    lines = [f"plan of {budget.run}, from the corpus in {budget.corpus!r}{estimated}:"]
    if budget.run_tokens:
        lines.append(f"the run reads {short(budget.run_tokens)} tokens in {budget.steps:,} steps")
    head = [
        "component",
        "share",
        "in rows",
        "rows",
        "on disk",
        "read",
        "tasks",
        "epochs: smallest",
        "median",
        "largest",
    ]
    table = [head, *(_component_cells(budget, component) for component in budget.components)]
    lines += ["", *_aligned(table), ""]
    table = [["component", "class", "tasks", "one epoch", "in rows", "epochs", "epochs of the run"]]
    for component in budget.components:
        for label, tasks in component.by_class().items():
            size, tokens, run = (sum(getattr(task, key) for task in tasks) for key in ("size", "tokens", "run_tokens"))
            epochs = ["?", "?"] if component.assumed else [f"{tokens / size:.3g}", f"{run / size:.3g}"]
            table.append([component.name, label or "-", f"{len(tasks):,}", short(size), short(tokens), *epochs])
    lines += [*_aligned(table), ""]
    lines += [f"  {note}" for note in notes(budget)]
    return "\n".join(lines)


def notes(budget: Budget) -> list[str]:
    """What the figures rest on, and what in them is not as it was wanted; a sentence each."""
    found = [
        f"Rows take {short(budget.tokens * ROW_TOKEN_BYTES, BYTES)} on disk, and what is on its way to them up to "
        f"{short(budget.tokens * EXCHANGE_TOKEN_BYTES, BYTES)}.",
        f"{short(budget.text_bytes, BYTES)} of text are tokenised: about {short(budget.core_seconds / 3600)} hours of "
        f"a core, {short(budget.core_seconds / 3600 / budget.num_workers)} hours with "
        f"config.pack.num_workers={budget.num_workers}.",
    ]
    for component in budget.components:
        times = component.run_tokens / component.tokens
        if component.tokens < 0.999 * component.wanted:
            found.append(
                f"{component.name} has {short(component.tokens)} tokens, not {short(component.wanted)}: its tasks have "
                "no more in max_epochs."
            )
        if times > 1.01:
            found.append(f"The run reads the rows of {component.name} {times:.2f} times; the same rows, in new order.")
    if budget.is_estimated:
        found.append(
            "Sizes are published rows and whitespace tokens, by bytes per word and Llama 3's tokens per byte of each "
            "language (text_rates.csv); on other text those are off by up to a fifth."
        )
    if assumed := [component.name for component in budget.components if component.assumed]:
        found.append(f"How large {', '.join(assumed)} are is not published; their epochs are not known.")
    return found


def _component_cells(budget: Budget, component: Component) -> list[str]:
    ordered = sorted(component.tasks, key=lambda task: task.size)
    epochs = ["?"] * 3
    if not component.assumed:
        middle = statistics.median(task.epochs for task in ordered)
        epochs = [f"{value:.3g}" for value in (ordered[0].epochs, middle, ordered[-1].epochs)]
    return [
        component.name,
        f"{component.share:.1%}" if component.share else "-",
        short(component.tokens),
        f"{budget.rows(component):,}",
        short(component.tokens * ROW_TOKEN_BYTES, BYTES),
        f"{component.run_tokens / component.tokens:.2f}x" if component.run_tokens else "-",
        f"{len(component.tasks):,}",
        *epochs,
    ]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(cells)).rstrip()
        for cells in ([*zip(row, widths, strict=True)] for row in table)
    ]
