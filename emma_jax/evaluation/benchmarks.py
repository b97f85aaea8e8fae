"""Tasks of lm-evaluation-harness for the benchmarks of the catalog, one for each benchmark, language and rule.

A task is made from one template (`tasks/*.yaml`, or a file of the harness itself) when it is chosen, so that hundreds
of languages need no file each. Data comes from the Hub, or from a folder that holds a folder for each benchmark in the
layout its authors publish; then nothing is fetched.

`lm_eval.evaluate(model, TaskManager(…).load([task.config for task in select(…)]))` runs them. (`simple_evaluate` does
too, but first describes the machine, which takes longer than a small benchmark.)
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from lm_eval import tasks as harness
from lm_eval.tasks._index import Entry, Kind, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from emma_jax import languages
from emma_jax.evaluation.catalog import BENCHMARKS, HARNESS, OWN, SUMMARIES, Benchmark
from emma_jax.evaluation.tasks import summaries


@dataclasses.dataclass(frozen=True)
class BenchmarkTask:
    """A benchmark in a language (source-target for a direction) by a rule: what the harness runs, and what it tells.

    `config` is what `TaskManager.load` takes; `name` is what its results are under, and `metrics` maps the keys of
    those results ("acc,none") to the names of numbers.
    """

    name: str
    benchmark: str
    language: str
    rule: str
    shots: int
    metrics: Mapping[str, str]
    config: dict[str, Any] = dataclasses.field(repr=False, hash=False, compare=False)


def select(
    names: Sequence[str], chosen: Sequence[str] = (), data: str = "", bert_score: bool = False
) -> list[BenchmarkTask]:
    """The tasks of the benchmarks `names` in the languages `chosen`, or in all that there are, by every rule.

    `data` is the folder of data; without it, data comes from the Hub. For translation a language stands for both
    directions, and source-target for one. A benchmark that has none of the languages is passed over with a warning.
    Rows are read, and what is wrong with them is found, when the harness loads a task.

    Raises ValueError if a benchmark is not known, a language is in none of them, data is not where it should be, or
    `bert_score` is wanted of summaries and not installed.
    """
    for name in names:
        if name not in BENCHMARKS:
            meant = languages.nearest(name, BENCHMARKS)
            raise ValueError(f"there is no benchmark {name!r}{meant} There are {', '.join(BENCHMARKS)}")
    there = {name: available(BENCHMARKS[name], data) for name in dict.fromkeys(names)}
    for language in chosen:
        if not any(_units(BENCHMARKS[name], codes, [language]) for name, codes in there.items()):
            known = {code for codes in there.values() for code in codes}
            has = f"{' and '.join(there)} {'has' if len(there) == 1 else 'have'}"
            raise ValueError(f"{has} no language {language!r}{languages.nearest(language, known)}")
    tasks = []
    for name, codes in there.items():
        units = _units(BENCHMARKS[name], codes, chosen)
        if not units:
            logging.warning("%s has none of %s and is passed over", name, ", ".join(chosen))
        for rule in BENCHMARKS[name].templates:
            tasks += [_task(BENCHMARKS[name], rule, unit, codes, data, bert_score) for unit in units]
    return tasks


def available(benchmark: Benchmark, data: str = "") -> dict[str, str]:
    """The languages of a benchmark, with what it calls them: those in the folder of data, if one is given.

    Raises ValueError if the data is not where it should be.
    """
    if not data and not benchmark.from_hub:
        raise ValueError(f"{benchmark.name} is not on the Hub; give it as --data=DIR with {benchmark.layout}")
    if not data:
        return dict(benchmark.codes)
    present = benchmark.present(data)
    if not present:
        raise ValueError(f"there is no {benchmark.name} in {data!r}; expected {benchmark.layout}")
    if benchmark.codes is None:
        return {code: code for code in sorted(present)}
    return {code: own for code, own in benchmark.codes.items() if own in present}


class TaskManager(harness.TaskManager):
    """The harness's, which also knows the tasks of our benchmarks by name, and by the name of a benchmark all of them.

    `data` in `metadata` is the folder of data, `pretrained` that of the model, whose tokenizer rule `paper` of topics
    looks at (or `tokenizer`, if it is another). Without `include_defaults` it starts at once, with our tasks only.
    """

    def __init__(self, *arguments, metadata: Mapping[str, Any] | None = None, **keywords):
        metadata = dict(metadata or {})
        data = str(metadata.pop("data", ""))
        super().__init__(*arguments, metadata=metadata, **keywords)
        for benchmark in BENCHMARKS.values():
            if benchmark.present(data) if data else benchmark.from_hub:
                tasks = {task.name: task.config for task in select([benchmark.name], data=data)}
                self.task_index.update({name: TaskIndex.entry_from_config(config) for name, config in tasks.items()})
                # The harness has groups of some of these names, which average over languages too.
                self.task_index.setdefault(benchmark.name, Entry(benchmark.name, Kind.TAG, None, tags=set(tasks)))
        of_kind = {kind: sorted(n for n, entry in self.task_index.items() if entry.kind is kind) for kind in Kind}
        self._all_tasks = sorted(self.task_index)
        self._all_subtasks = sorted(of_kind[Kind.TASK] + of_kind[Kind.PY_TASK])
        self._all_tags = of_kind[Kind.TAG]


def _units(benchmark: Benchmark, there: Mapping[str, str], chosen: Sequence[str]) -> list[str]:
    """The languages or directions of a benchmark among those chosen; all if none is."""
    if not benchmark.pairs:
        return [code for code in dict.fromkeys(chosen or there) if code in there]
    units = []
    for language in chosen or there:
        sides = language.split("-") if "-" in language else [language, languages.ENGLISH]
        if len(sides) == 2 and languages.ENGLISH in sides and set(sides) <= there.keys() and sides[0] != sides[1]:
            units += ["-".join(sides)] if "-" in language else ["-".join(sides), "-".join(sides[::-1])]
    return list(dict.fromkeys(units))


def _task(
    benchmark: Benchmark, rule: str, unit: str, codes: Mapping[str, str], data: str, bert_score: bool
) -> BenchmarkTask:
    own = unit if benchmark.pairs else codes[unit]
    config = dict(_template(HARNESS if benchmark.rows else OWN, benchmark.templates[rule].format(own)))
    if not benchmark.rows:
        sides = dict(zip(("source", "target"), unit.split("-"), strict=False))
        arguments = (sides if benchmark.pairs else {"language": own}) | {"data": data}
        config |= {"task": f"{config['task']}_{unit}", "dataset_kwargs": {**config["dataset_kwargs"], **arguments}}
    elif data:
        config |= dict.fromkeys(("training_split", "validation_split", "test_split", "fewshot_split"))
        config["validation_split" if benchmark.split != "test" else "test_split"] = benchmark.split
        config |= {"custom_dataset": benchmark.rows, "dataset_kwargs": {"language": own, "data": data}}
    config = benchmark.extend(config)
    metrics = benchmark.metrics[rule]
    if bert_score and benchmark.name in SUMMARIES:
        config, metrics = summaries.with_bert_score(config), {**metrics, "bert_score,none": "bert_score"}
    return BenchmarkTask(config["task"], benchmark.name, unit, rule, benchmark.shots, metrics, config)


@functools.lru_cache(maxsize=512)
def _template(package: str, file: str) -> dict[str, Any]:
    return {"dataset_kwargs": {}, **load_yaml(importlib.resources.files(package) / file)}
