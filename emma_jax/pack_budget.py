"""What a config would pack and a run would read of it, before anything is written: `plan-<run>.json`.

Owns the arithmetic from a run's tokens to tokens and epochs of each task, to bytes and hours. How tokens are divided is
`shares`', the work itself `pack_plan`'s, what is said of it `pack_summary`'s and `pack_page`'s. Needs no TensorFlow
and, for the paper's corpus, no text and no tokenizer.
"""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterable

from data_tasks import mixtures, rendering, sizes
from emma_jax import manifest, pack_plan, paper_corpus, progress, tokenizer

VERSION = 1
FILL = {"best_fit": 0.995, "concatenate": 1.0}  # of rows of 8,192 tokens
SHARD_BLOCK_BYTES = 1 << 16  # a shard is whole ones, the last for its index (measured)
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
    num_shards: int

    @property
    def tokens(self) -> int:
        """Tokens in its rows."""
        return sum(task.tokens for task in self.tasks)

    @property
    def run_tokens(self) -> float:
        """Tokens that the run reads of it."""
        return sum(task.run_tokens for task in self.tasks)

    @property
    def store_bytes(self) -> float:
        """Of its shards."""
        blocks = 1 + math.ceil(self.tokens * ROW_TOKEN_BYTES / self.num_shards / SHARD_BLOCK_BYTES)
        return blocks * SHARD_BLOCK_BYTES * self.num_shards

    def by_class(self) -> dict[str, tuple[Task, ...]]:
        """Tasks of each resource class, the largest class first."""
        order = sorted({task.resource_class for task in self.tasks}, key=lambda label: -self._largest(label))
        return {label: tuple(task for task in self.tasks if task.resource_class == label) for label in order}

    def _largest(self, label: str) -> float:
        return max(task.size for task in self.tasks if task.resource_class == label)


@dataclasses.dataclass(frozen=True)
class Budget:
    """All components, and what packing them takes; `is_estimated` says that no text was measured.

    `validation_slices` are the languages and directions of which `validation_documents` each are kept for validation.
    """

    run: str
    corpus: str
    steps: int
    run_tokens: int
    row_length: int
    fill: float
    components: tuple[Component, ...]
    validation_documents: int
    validation_slices: int
    is_estimated: bool
    text_bytes: float
    core_seconds: float
    num_workers: int

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(component.tokens for component in self.components)

    @property
    def store_bytes(self) -> float:
        """Of all shards."""
        return sum(component.store_bytes for component in self.components)

    @property
    def exchange_bytes(self) -> float:
        """Of what is on its way to the shards, at most."""
        return self.tokens * EXCHANGE_TOKEN_BYTES

    def rows(self, component: Component) -> int:
        """Rows that a component fills."""
        return math.ceil(component.tokens / (self.row_length * self.fill))

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
    components, corpus = mixtures.resolved(config.pack), _corpus(config.corpus.folder)
    run_tokens = config.train.steps * config.input_pipeline.batch_rows * config.pack.row_length
    known = sizes.of_corpus(corpus, config.rendering)
    classes = {name: entry.resource_class for name, entry in corpus.tasks.items()}
    mixtures.rates(known, classes, config.mixture, components)  # what cannot be mixed is refused
    names = {component: mixtures.matching(component, section.tasks, known) for component, section in components.items()}
    found = _token_sizes(dict.fromkeys(itertools.chain(*names.values())), known, corpus, config)
    planned = []
    for component, section in components.items():
        task_sizes = {name: found[name].tokens for name in names[component]}
        plan = pack_plan.training_plan(component, section, task_sizes, classes, config.pack, "", config.seed)
        part = config.mixture.get(component, 0.0) / (sum(config.mixture.values()) or 1.0)
        tasks = tuple(
            Task(draw.name, classes[draw.name], draw.size, draw.tokens, part * run_tokens * draw.share)
            for draw in plan.draws
        )
        assumed = any(corpus.tasks[name].sources.keys() == {paper_corpus.ASSUMED} for name in names[component])
        planned.append(Component(component, part, section.tokens, tasks, assumed, plan.num_shards))

    text_bytes = sum(task.epochs * known[task.name].bytes for component in planned for task in component.tasks)
    return Budget(
        run=config.run_name or "unnamed",
        corpus=config.corpus.folder,
        steps=config.train.steps,
        run_tokens=run_tokens,
        row_length=config.pack.row_length,
        fill=FILL[config.pack.packing],
        components=tuple(sorted(planned, key=lambda component: -component.tokens)),
        validation_documents=config.pack.validation_documents,
        validation_slices=sum(_num_slices(name, corpus, config) for name in found),
        is_estimated=_is_estimated(config),
        text_bytes=text_bytes,
        core_seconds=text_bytes / _bytes_per_core_second(found.values()),
        num_workers=config.pack.num_workers,
    )


def _corpus(folder: str) -> manifest.Manifest:
    try:
        return paper_corpus.load(folder)
    except ValueError as error:
        name = paper_corpus.NAME
        raise ValueError(f"{error}, or plan by the paper's numbers: --config.corpus.folder={name}") from error


def _is_estimated(config) -> bool:
    return config.corpus.folder == paper_corpus.NAME


def _num_slices(name: str, corpus, config) -> int:
    """Of a task in the validation rows; of the paper's corpus, whose splits are not published, as if it had one."""
    has_split = _is_estimated(config) or manifest.SPLITS[1] in corpus.tasks[name].splits
    return len(rendering.frames(name, config.rendering)) if has_split and config.pack.validation_documents else 0


def _token_sizes(names: Iterable[str], known, corpus, config) -> dict[str, sizes.Measured]:
    names = list(names)
    if _is_estimated(config):
        return {name: sizes.estimated(name, known[name], config.rendering) for name in names}
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
    """The budget with what follows from it; a task is a line, and null what is not known of it."""
    content = {"version": VERSION} | {
        key: getattr(budget, key)
        for key in (
            "run",
            "corpus",
            "steps",
            "run_tokens",
            "row_length",
            "fill",
            "is_estimated",
            "tokens",
            "text_bytes",
            "validation_documents",
            "validation_slices",
        )
    }
    content |= {
        "store_bytes": round(budget.store_bytes),
        "exchange_bytes": round(budget.exchange_bytes),
        "core_seconds": round(budget.core_seconds),
        "components": [
            {
                **{key: getattr(component, key) for key in ("name", "share", "wanted", "tokens", "assumed")},
                "run_tokens": round(component.run_tokens),
                "rows": budget.rows(component),
                "store_bytes": round(component.store_bytes),
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
                "size": None if component.assumed else round(task.size),
                "tokens": task.tokens,
                "epochs": None if component.assumed else float(f"{task.epochs:.6g}"),
                "run_tokens": round(task.run_tokens),
                "run_epochs": None if component.assumed else float(f"{task.run_epochs:.6g}"),
            }
        )
        for component, task in budget.tasks
    ]
    return json.dumps(content, indent=1)[:-2] + ',\n "tasks": [\n  ' + ",\n  ".join(tasks) + "\n ]\n}\n"
