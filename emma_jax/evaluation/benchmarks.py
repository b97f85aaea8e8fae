"""Which benchmarks there are, in which languages, and a task of lm-evaluation-harness for each.

A task is made from one template (`tasks/*.yaml`, or a file of the harness itself) when it is chosen, so that hundreds
of languages need no file each. Languages are called `xxx_Ssss` here whatever the benchmark calls them. Data comes from
the Hub, or from a folder that holds a folder for each benchmark in the layout its authors publish; then nothing is
fetched.
"""

import dataclasses
import functools
import importlib.resources
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging
from lm_eval import tasks as harness
from lm_eval.tasks._index import TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from emma_jax import languages
from emma_jax.evaluation.tasks import flores200, numbers, offline, summaries, topics

OWN, HARNESS = "emma_jax.evaluation.tasks", "lm_eval.tasks"
# Where a two-letter code is a macro-language, the member that the benchmarks have, as FLORES-200 spells it.
MEMBERS = {"ar": "arb_Arab", "ne": "npi_Deva", "qu": "quy_Latn", "sw": "swh_Latn", "zh": "zho_Hans"}

assert numbers.NumberFilter  # importing it makes the filter known to the harness


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark: its languages, templates and where its data is.

    `codes` has for each language what the benchmark calls it; None says that only the folder of data knows. `templates`
    maps a rule to a template, and `metrics` the harness's metrics of a rule to what results call them. `file` is the
    test file of a language in `folder` (`name`, if not said) of the data; `rows` reads it for a task of the harness,
    whose split is `split`, and `extend` adds to that task.
    """

    name: str
    shots: int
    codes: Mapping[str, str] | None
    templates: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, str]]
    file: str
    rows: Callable | None = None
    split: str = "test"
    folder: str = ""
    extend: Callable[[dict[str, Any]], dict[str, Any]] = dict
    from_hub: bool = True
    pairs: bool = False


@dataclasses.dataclass(frozen=True)
class BenchmarkTask:
    """A benchmark in a language (source-target for a direction) by a rule: what the harness runs, and what it tells.

    `config` is a task for `TaskManager.load` or `simple_evaluate`; `name` is what its results are under, and `metrics`
    maps the keys of those results ("acc,none") to the names of numbers.
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

    Raises ValueError if a benchmark is not known, a language is in none of them, or its file is not in `data`.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(
                f"there is no benchmark {name!r}{languages.nearest(name, BENCHMARKS)} There are {', '.join(BENCHMARKS)}"
            )
    benchmarks = [BENCHMARKS[name] for name in dict.fromkeys(names)]
    there = {benchmark.name: available(benchmark, data) for benchmark in benchmarks}
    for language in chosen:
        if not any(_units(b, there[b.name], [language]) for b in benchmarks):
            known = sorted({code for codes in there.values() for code in codes})
            raise ValueError(
                f"{' and '.join(there)} {'has' if len(there) == 1 else 'have'} no language "
                f"{language!r}{languages.nearest(language, known)}"
            )
    made = []
    for benchmark in benchmarks:
        units = _units(benchmark, there[benchmark.name], chosen)
        if not units:
            logging.warning("%s has none of %s and is passed over", benchmark.name, ", ".join(chosen))
        made += [
            _task(benchmark, rule, unit, there[benchmark.name], data, bert_score)
            for rule in benchmark.templates
            for unit in units
        ]
    return made


def available(benchmark: Benchmark, data: str = "") -> dict[str, str]:
    """The languages of a benchmark, with what it calls them: those in the folder of data, if one is given.

    Raises ValueError if the data is not where it should be.
    """
    if not data:
        if not benchmark.from_hub:
            raise ValueError(f"{benchmark.name} is not on the Hub; give it as --data=DIR with {_layout(benchmark)}")
        return dict(benchmark.codes)
    present = _present(benchmark, data)
    if not present:
        raise ValueError(f"there is no {benchmark.name} in {data!r}; expected {_layout(benchmark)}")
    if benchmark.codes is None:
        return {code: code for code in sorted(present)}
    return {code: own for code, own in benchmark.codes.items() if own in present}


class TaskManager(harness.TaskManager):
    """The harness's, which also knows the tasks of our benchmarks by name, in all languages.

    `data` in `metadata` is the folder of data. Without `include_defaults` it starts at once, with our tasks only.
    """

    def __init__(self, *arguments, metadata: Mapping[str, Any] | None = None, **keywords):
        metadata = dict(metadata or {})
        data = str(metadata.pop("data", ""))
        super().__init__(*arguments, metadata=metadata, **keywords)
        for benchmark in BENCHMARKS.values():
            if _present(benchmark, data) if data else benchmark.from_hub:
                for task in select([benchmark.name], data=data):
                    self.task_index[task.name] = TaskIndex.entry_from_config(task.config)


def code_of(spelling: str) -> str:
    """The language that benchmarks call by two letters.

    >>> [code_of(letters) for letters in ("et", "sw", "zh", "ja", "sr")]
    ['est_Latn', 'swh_Latn', 'zho_Hans', 'jpn_Jpan', 'srp_Cyrl']
    """
    language = languages.language_tag(spelling).to_alpha3()
    return MEMBERS.get(spelling) or f"{language}_{languages.likely_script(language)}"


def _units(benchmark: Benchmark, there: Mapping[str, str], chosen: Sequence[str]) -> list[str]:
    """The languages or directions of a benchmark among those chosen; all if none is."""
    if not benchmark.pairs:
        return [code for code in (chosen or there) if code in there]
    units = []
    for language in chosen or there:
        sides = language.split("-") if "-" in language else [language, languages.ENGLISH]
        if len(sides) == 2 and languages.ENGLISH in sides and set(sides) <= there.keys() and sides[0] != sides[1]:
            units += ["-".join(sides)] if "-" in language else ["-".join(sides), "-".join(sides[::-1])]
    return list(dict.fromkeys(units))


def _task(benchmark: Benchmark, rule: str, unit: str, there, data: str, bert_score: bool) -> BenchmarkTask:
    package, template = (HARNESS, benchmark.templates[rule]) if benchmark.rows else (OWN, benchmark.templates[rule])
    own = unit if benchmark.pairs else there[unit]
    config = dict(_template(package, template.format(own)))
    keywords = dict(config.get("dataset_kwargs") or {})
    if benchmark.rows:
        if data:
            splits = dict.fromkeys(("training_split", "validation_split", "test_split", "fewshot_split"))
            splits["validation_split" if benchmark.split != "test" else "test_split"] = benchmark.split
            config |= {"custom_dataset": benchmark.rows, **splits}
            keywords = {"language": own, "data": data}
    else:
        config["task"] += f"_{unit}"
        sides = dict(zip(("source", "target"), unit.split("-"), strict=False))
        keywords |= (sides if benchmark.pairs else {"language": own}) | {"data": data}
    config["dataset_kwargs"] = keywords
    config = benchmark.extend(config)
    metrics = dict(benchmark.metrics[rule])
    if bert_score and benchmark.name in SUMMARIES:
        config, metrics = summaries.with_bert_score(config), metrics | {"bert_score,none": "bert_score"}
    return BenchmarkTask(config["task"], benchmark.name, unit, rule, benchmark.shots, metrics, config)


@functools.lru_cache(maxsize=512)
def _template(package: str, file: str) -> dict[str, Any]:
    return load_yaml(importlib.resources.files(package) / file)


def _present(benchmark: Benchmark, data: str) -> set[str]:
    """What the benchmark calls the languages whose test files are in the folder of data."""
    folder = Path(data) / (benchmark.folder or benchmark.name)
    if "{}" not in benchmark.file:  # the languages are in one file
        return offline.xnli_languages(folder / benchmark.file)
    found = folder.glob(benchmark.file.replace("{}", "*"))
    form = re.compile(re.escape(benchmark.file).replace(r"\{\}", "(.+?)", 1).replace(r"\{\}", r"\1"))
    matches = (form.fullmatch(path.relative_to(folder).as_posix()) for path in found)
    return {match[1] for match in matches if match}


def _layout(benchmark: Benchmark) -> str:
    return f"DIR/{benchmark.folder or benchmark.name}/{benchmark.file.replace('{}', 'LANGUAGE')}"


def _spelt(*spellings: str) -> dict[str, str]:
    return {code_of(spelling): spelling for spelling in spellings}


def _in_harness(template: str) -> dict[str, str]:
    """The languages that the harness has a file for, by code."""
    folder = importlib.resources.files(HARNESS) / template.rpartition("/")[0]
    form = re.compile(re.escape(template.rpartition("/")[2]).replace(r"\{\}", r"([a-z]{2}|[a-z]{3}_[A-Z][a-z]{3})"))
    found = sorted(match[1] for path in folder.iterdir() if (match := form.fullmatch(path.name)))
    return {own if "_" in own else code_of(own): own for own in found}


def _with_robust_filter(config: dict[str, Any]) -> dict[str, Any]:
    """A task of MGSM that also reads its answers by the filter `number`, with the words that the harness has for it."""
    filters = {entry["name"]: entry["filter"] for entry in config["filter_list"]}
    announced = [part["regex_pattern"].partition("(")[0] for part in filters.get("strict-match", ())[:1]]
    number = {
        "function": "number",
        "question": config["generation_kwargs"]["until"][0],
        "phrases": [*announced, "The answer is"],
        "first_line": not announced,
    }
    robust = {"name": "robust", "filter": [number, {"function": "take_first"}]}
    return {**config, "filter_list": [*config["filter_list"], robust]}


def _topics(name: str, **more) -> Benchmark:
    templates = {"paper": f"{name}.yaml", "robust": f"{name}_robust.yaml"}
    metrics = {"paper": ACC, "robust": {"acc_norm,none": "acc_robust"}}
    return Benchmark(name, topics.SHOTS, templates=templates, metrics=metrics, **more)


def _of_harness(name: str, template: str, rows: Callable, file: str, metrics: Mapping[str, str], **more) -> Benchmark:
    codes = _in_harness(template)
    return Benchmark(name, 0, codes, {"paper": template}, {"paper": metrics}, file, rows, **more)


def _summaries(name: str, file: str, **more) -> Benchmark:
    metrics = {"rouge_l,none": "rouge_l", "answered,none": "answered"}
    return Benchmark(name, 0, templates={"paper": f"{name}.yaml"}, metrics={"paper": metrics}, file=file, **more)


ACC = {"acc,none": "acc"}
MGSM = dict(
    rows=offline.mgsm,
    file="mgsm_{}.tsv",
    metrics={"exact_match,flexible-extract": "acc", "exact_match,robust": "acc_robust"},
    folder="mgsm",
    extend=_with_robust_filter,
)
FLORES_CODES = {code: code for code in flores200.names()}
SUMMARIES = ("xlsum", "massivesumm_long", "massivesumm_short")

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        # SIB-200 has the sentences of FLORES-200, and N'Ko.
        _topics("sib200", codes={**FLORES_CODES, "nqo_Nkoo": "nqo_Nkoo"}, file="{}/test.tsv"),
        _topics("taxi1500", codes=None, file="{}/{}_test.tsv", from_hub=False),
        _of_harness("xcopa", "xcopa/default_{}.yaml", offline.xcopa, "test.{}.jsonl", ACC),
        _of_harness(
            "xstorycloze", "xstorycloze/default_{}.yaml", offline.xstorycloze,
            "spring2016.val.{}.tsv.split_20_80_eval.tsv", ACC, split="eval",
        ),
        _of_harness("xnli", "xnli/xnli_{}.yaml", offline.xnli, "xnli.dev.tsv", ACC, split="validation"),
        Benchmark(
            "flores200", flores200.SHOTS, FLORES_CODES, {"paper": "flores200.yaml"},
            {"paper": {"bleu,none": "bleu", "chrf,none": "chrf++"}}, "devtest/{}.devtest", pairs=True,
        ),
        _summaries("xlsum", "{}_test.jsonl", codes=summaries.xlsum_names()),
        *(
            _summaries(f"massivesumm_{part}", part + "/{}.jsonl", codes=None, folder="massivesumm", from_hub=False)
            for part in ("long", "short")
        ),
        _of_harness("belebele", "belebele/belebele_{}.yaml", offline.belebele, "{}.jsonl", ACC),
        _of_harness(
            "arc_multilingual", "okapi/arc_multilingual/arc_{}.yaml", offline.arc_multilingual, "{}/test.jsonl", ACC
        ),
        _of_harness("mgsm_direct", "mgsm/direct/mgsm_direct_{}.yaml", **MGSM),
        _of_harness("mgsm_cot", "mgsm/native_cot/mgsm_native_cot_{}.yaml", **MGSM),
    )
}  # fmt: skip
