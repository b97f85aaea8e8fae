"""What a report is made of: results of several models joined by direction, their runs, and the corpus.

Owns reading and the refusal of what cannot be compared. Draws nothing and computes only means.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from etils import epath

from emma_jax import languages, manifest, metric_writer
from emma_jax.evaluation import results
from emma_jax.evaluation.intrinsic import ALONE, BENCHMARK, GIVEN, GIVEN_OTHER

Series = Mapping[str, Sequence[tuple[int, float]]]


class Score(NamedTuple):
    """Bits per UTF-8 byte of a target: alone, given its source, and given the source of another sentence (or None)."""

    alone: float
    given: float
    other: float | None

    @property
    def gain(self) -> float:
        """The share of the bits that the source saves.

        >>> Score(alone=4.0, given=3.0, other=3.5).gain
        0.25
        """
        return 1.0 - self.given / self.alone

    @property
    def content_gain(self) -> float | None:
        """The part of the gain that another sentence's source does not give.

        >>> Score(alone=4.0, given=3.0, other=3.5).content_gain
        0.125
        """
        return None if self.other is None else (self.other - self.given) / self.alone


class Direction(NamedTuple):
    """A target language given a source language, over `n` sentences (the fewest, where models differ)."""

    source: str
    target: str
    n: int
    scores: Mapping[str, Score]

    @property
    def language(self) -> str:
        """The side that is not English."""
        return self.source if self.target == languages.ENGLISH else self.target


class Sample(NamedTuple):
    """One prompt, its reference and the output of each model that answered it."""

    language: str
    prompt: str
    reference: str
    outputs: Mapping[str, str]


class Run(NamedTuple):
    """A training run: its scalars over steps and its number of parameters (None where it is not recorded)."""

    series: Series
    num_parameters: int | None

    def last(self, name: str) -> float | None:
        """The last value of a scalar, or None."""
        return self.series[name][-1][1] if self.series.get(name) else None


class Evidence(NamedTuple):
    """All that a report shows. `models` are in the order of columns and colours."""

    models: tuple[str, ...]
    results: Sequence[results.Result]
    directions: Sequence[Direction]
    samples: Sequence[Sample]
    runs: Mapping[str, Run]
    corpus: manifest.Manifest | None

    def compared(self, into_english: bool | None = None) -> list[Direction]:
        """The directions that every model was scored on, of one kind or (None) of both."""
        return [
            direction
            for direction in self.directions
            if direction.scores.keys() >= set(self.models)
            and into_english in (None, direction.target == languages.ENGLISH)
        ]

    def pair_tokens(self, language: str) -> int:
        """Whitespace tokens, of both sides, that the corpus has for training on a language with English."""
        pair = self._pair(language)
        return pair.splits["train"].tokens if pair and "train" in pair.splits else 0

    def resource_class(self, language: str) -> str | None:
        """The resource class of a language's pair with English, or None where the corpus has none."""
        pair = self._pair(language)
        return pair and pair.resource_class

    def _pair(self, language: str) -> manifest.Entry | None:
        return self.corpus and self.corpus.pairs.get("-".join(sorted((language, languages.ENGLISH))))


def load(folders: Sequence[str], workdirs: Mapping[str, str], corpus: str) -> Evidence:
    """The evidence in `folders` of results, the workdirs by model, and the folder of a corpus ("": none).

    Raises ValueError if there is nothing to compare, a model of `workdirs` has no results or no metrics, or models
    were scored on other texts than each other.
    """
    rows = [row for folder in folders for row in results.read_results(_folder(folder))]
    if not rows:
        raise ValueError(f"there are no results in {', '.join(folders)}; run `python -m emma_jax.evaluate` first")
    found = tuple(dict.fromkeys(row.model for row in rows))
    if absent := [model for model in workdirs if model not in found]:
        raise ValueError(f"there are no results of {', '.join(absent)}; {', '.join(folders)} hold {', '.join(found)}")
    _check_comparable(rows)
    models = tuple(workdirs) + tuple(model for model in found if model not in workdirs)
    return Evidence(
        models=models,
        results=rows,
        directions=_directions(rows),
        samples=_samples([row for folder in folders for row in results.read_generations(_folder(folder))]),
        runs={model: _run(workdir) for model, workdir in workdirs.items()},
        corpus=manifest.load(corpus) if corpus else None,
    )


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None of nothing.

    >>> mean([1.0, 2.0]), mean([])
    (1.5, None)
    """
    return sum(values) / len(values) if values else None


def by_group(
    directions: Sequence[Direction], group: Callable[[Direction], str], value: Callable[[Score], float | None]
) -> dict[str, tuple[int, dict[str, float | None]]]:
    """For each group: how many directions it has, and the mean of `value` over them by model.

    >>> two = [Direction("eng_Latn", code, 8, {"bi": Score(4.0, given, None)})
    ...        for code, given in (("deu_Latn", 3.0), ("rus_Cyrl", 2.0))]
    >>> by_group(two, lambda direction: direction.language[4:], lambda score: score.gain)
    {'Latn': (1, {'bi': 0.25}), 'Cyrl': (1, {'bi': 0.5})}
    """
    members = defaultdict(list)
    for direction in directions:
        members[group(direction)].append(direction.scores)
    return {
        label: (
            len(scores),
            {model: mean([v for score in scores if (v := value(score[model])) is not None]) for model in scores[0]},
        )
        for label, scores in members.items()
    }


def _folder(name: str) -> epath.Path:
    """The folder of results that `name` is, or that the file `name` is in; ValueError if it is neither."""
    path = epath.Path(name)
    if path.is_file() and path.name == results.RESULTS:
        return path.parent
    if not path.is_dir():
        raise ValueError(f"{name} is neither a folder of results nor a {results.RESULTS}")
    return path


def _check_comparable(rows: Sequence[results.Result]) -> None:
    hashes, seen = defaultdict(dict), set()
    for row in rows:
        key = row.model, row.benchmark, row.language, row.metric
        if key in seen:
            raise ValueError(f"{row.model} has {row.metric} of {row.language} twice; name each folder of results once")
        seen.add(key)
        hashes[row.benchmark].setdefault(row.prompt_hash, row.model)
    for benchmark, models in hashes.items():
        if len(models) > 1:
            raise ValueError(
                f"{' and '.join(models.values())} were not scored on the same texts of {benchmark}; evaluate them "
                "again with one config and one --output"
            )


def _directions(rows: Sequence[results.Result]) -> list[Direction]:
    values, sizes = defaultdict(lambda: defaultdict(dict)), {}
    for row in rows:
        if row.benchmark == BENCHMARK:
            values[row.language][row.model][row.metric] = row.value
            sizes[row.language] = min(row.n, sizes.get(row.language, row.n))
    directions = []
    for language, by_model in values.items():
        scores = {
            model: Score(metrics[ALONE], metrics[GIVEN], metrics.get(GIVEN_OTHER))
            for model, metrics in by_model.items()
            if ALONE in metrics and GIVEN in metrics
        }
        directions.append(Direction(*language.split("-"), sizes[language], scores))
    return directions


def _samples(rows: Sequence[results.Generation]) -> list[Sample]:
    outputs = defaultdict(dict)
    for row in rows:
        outputs[row.language, row.prompt, row.reference][row.model] = row.output
    return [Sample(*key, by_model) for key, by_model in outputs.items()]


def _run(workdir: str) -> Run:
    series = metric_writer.read(epath.Path(workdir) / "events")
    if not series.get("loss"):
        raise ValueError(f"{workdir} has no metrics in its folder 'events'; is it the workdir of a training run?")
    config = epath.Path(workdir) / "config.json"
    return Run(series, _num_parameters(json.loads(config.read_text())["model"]) if config.exists() else None)


def _num_parameters(model: Mapping) -> int:
    """Parameters of a config.model.

    >>> llama = dict(vocab_size=128256, num_layers=32, model_dim=4096, num_heads=32, num_kv_heads=8, head_dim=128,
    ...              mlp_dim=14336, tie_embeddings=False)
    >>> f"{_num_parameters(llama):,}"
    '8,030,261,248'
    """
    dim, channels = model["model_dim"], model["head_dim"]
    attention = 2 * dim * channels * (model["num_heads"] + model["num_kv_heads"])
    layer = attention + 3 * dim * model["mlp_dim"] + 2 * dim
    vocabulary = model["vocab_size"] * dim * (1 if model["tie_embeddings"] else 2)
    return vocabulary + model["num_layers"] * layer + dim
