"""The benchmarks: in which languages each is, where its data is, and which template makes its tasks.

Languages are called `xxx_Ssss` here, whatever the benchmark calls them. Owns the table; what is made of it for the
harness is the business of `benchmarks`.
"""

import dataclasses
import importlib.resources
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emma_jax import languages
from emma_jax.evaluation.tasks import flores200, numbers, offline, summaries, topics

OWN, HARNESS = "emma_jax.evaluation.tasks", "lm_eval.tasks"  # the packages with templates
# Where a two-letter code is a macro-language, the member that the benchmarks have, as FLORES-200 spells it.
MEMBERS = {"ar": "arb_Arab", "ne": "npi_Deva", "qu": "quy_Latn", "sw": "swh_Latn", "zh": "zho_Hans"}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark: its languages, templates and where its data is.

    `codes` has for each language what the benchmark calls it; None says that only the folder of data knows. `templates`
    maps a rule to a template, and `metrics` the harness's metrics of a rule to what results call them. `file` is the
    test file of a language in `folder` (`name`, if not said) of the data. `rows` reads it for a task of the harness,
    whose split is `split`, and `extend` adds to that task; a benchmark without `rows` is ours.
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

    @property
    def layout(self) -> str:
        """Where the test file of a language is, as one tells a user."""
        return f"DIR/{self.folder or self.name}/{self.file.replace('{}', 'LANGUAGE')}"

    def present(self, data: str) -> set[str]:
        """What the benchmark calls the languages that have a test file in the folder `data`."""
        folder = Path(data) / (self.folder or self.name)
        if "{}" not in self.file:  # the languages are in one file
            return offline.xnli_languages(folder / self.file)
        form = re.compile(re.escape(self.file).replace(r"\{\}", "(.+?)", 1).replace(r"\{\}", r"\1"))
        found = (path.relative_to(folder).as_posix() for path in folder.glob(self.file.replace("{}", "*")))
        return {match[1] for match in map(form.fullmatch, found) if match}


def code_of(letters: str) -> str:
    """The language that benchmarks call by two letters.

    >>> [code_of(letters) for letters in ("et", "sw", "zh", "ja", "sr")]
    ['est_Latn', 'swh_Latn', 'zho_Hans', 'jpn_Jpan', 'srp_Cyrl']
    """
    language = languages.language_tag(letters).to_alpha3()
    return MEMBERS.get(letters) or f"{language}_{languages.likely_script(language)}"


def _in_harness(template: str) -> dict[str, str]:
    """The languages that the harness has a file of this form for, by code."""
    folder = importlib.resources.files(HARNESS) / template.rpartition("/")[0]
    form = re.compile(re.escape(template.rpartition("/")[2]).replace(r"\{\}", r"([a-z]{2}|[a-z]{3}_[A-Z][a-z]{3})"))
    found = sorted(match[1] for path in folder.iterdir() if (match := form.fullmatch(path.name)))
    return {own if "_" in own else code_of(own): own for own in found}


def _with_robust_answers(config: dict[str, Any]) -> dict[str, Any]:
    """A task of MGSM that also reads its answers by the filter `number`, with the words that the harness has for it."""
    filters = {entry["name"]: entry["filter"] for entry in config["filter_list"]}
    announced = [part["regex_pattern"].partition("(")[0] for part in filters.get("strict-match", ())[:1]]
    number = {
        "function": numbers.FILTER,
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
    return Benchmark(name, 0, _in_harness(template), {"paper": template}, {"paper": metrics}, file, rows, **more)


def _mgsm(name: str, template: str) -> Benchmark:
    metrics = {"exact_match,flexible-extract": "acc", "exact_match,robust": "acc_robust"}
    more = dict(folder="mgsm", extend=_with_robust_answers)
    return _of_harness(name, template, offline.mgsm, "mgsm_{}.tsv", metrics, **more)


def _summaries(name: str, file: str, **more) -> Benchmark:
    metrics = {"rouge_l,none": "rouge_l", "answered,none": "answered"}
    return Benchmark(name, 0, templates={"paper": f"{name}.yaml"}, metrics={"paper": metrics}, file=file, **more)


ACC = {"acc,none": "acc"}
FLORES_CODES = {code: code for code in flores200.names()}
FLORES_METRICS = {"bleu,none": "bleu", "chrf,none": "chrf++"}
STORIES = "spring2016.val.{}.tsv.split_20_80_eval.tsv"

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        # SIB-200 has the sentences of FLORES-200, and N'Ko.
        _topics("sib200", codes={**FLORES_CODES, "nqo_Nkoo": "nqo_Nkoo"}, file="{}/test.tsv"),
        _topics("taxi1500", codes=None, file="{}/{}_test.tsv", from_hub=False),
        _of_harness("xcopa", "xcopa/default_{}.yaml", offline.xcopa, "test.{}.jsonl", ACC),
        _of_harness("xstorycloze", "xstorycloze/default_{}.yaml", offline.xstorycloze, STORIES, ACC, split="eval"),
        _of_harness("xnli", "xnli/xnli_{}.yaml", offline.xnli, "xnli.dev.tsv", ACC, split="validation"),
        Benchmark(
            "flores200", flores200.SHOTS, FLORES_CODES, {"paper": "flores200.yaml"}, {"paper": FLORES_METRICS},
            "devtest/{}.devtest", pairs=True,
        ),
        _summaries("xlsum", "{}_test.jsonl", codes=summaries.xlsum_names()),
        _summaries("massivesumm_long", "long/{}.jsonl", codes=None, folder="massivesumm", from_hub=False),
        _summaries("massivesumm_short", "short/{}.jsonl", codes=None, folder="massivesumm", from_hub=False),
        _of_harness("belebele", "belebele/belebele_{}.yaml", offline.belebele, "{}.jsonl", ACC),
        _of_harness(
            "arc_multilingual", "okapi/arc_multilingual/arc_{}.yaml", offline.arc_multilingual, "{}/test.jsonl", ACC
        ),
        _mgsm("mgsm_direct", "mgsm/direct/mgsm_direct_{}.yaml"),
        _mgsm("mgsm_cot", "mgsm/native_cot/mgsm_native_cot_{}.yaml"),
    )
}  # fmt: skip
SUMMARIES = frozenset(name for name, benchmark in BENCHMARKS.items() if "rouge_l,none" in benchmark.metrics["paper"])
