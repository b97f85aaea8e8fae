"""The report as one HTML page: what is shown in which order, and in which words. Loads nothing from anywhere.

Owns text and layout. Numbers are of `data`, figures of `plots`, tables of `tables`.
"""

import math
import statistics
from collections.abc import Sequence

from emma_jax.reporting import style, tables
from emma_jax.reporting.data import Direction, Evidence, Sample, mean
from emma_jax.reporting.markup import Markup, join, tag
from emma_jax.reporting.plots import Point, Span, dot_plot, line_plot, scatter_plot

SMALL_MODEL = 500_000_000  # parameters below which outputs should not be taken for translations
NATS = "nats per token"


def page(evidence: Evidence) -> str:
    """The whole page. Raises ValueError if there are more models than colours."""
    if len(evidence.models) > style.NUM_COLORS:
        raise ValueError(
            f"a report shows at most {style.NUM_COLORS} models, not {len(evidence.models)}: "
            f"{', '.join(evidence.models)}"
        )
    body = [
        tag("h1", " / ".join(evidence.models)),
        _headline(evidence),
        _tiles(evidence),
        _section("Models", _models(evidence)),
        _section("What a source gives, by language", _by_language(evidence)),
        _section("Which languages gain", _groups(evidence)),
        _section("Training", _training(evidence)),
        _section("Sample translations", _samples(evidence)),
        _section("Every language and direction", _all_languages(evidence)),
        _section("How to read this", _notes(evidence)),
    ]
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", f"Report: {', '.join(evidence.models)}"),
            tag("style", Markup(style.CSS)),
        ]
    )
    main = tag("main", *body)
    script = tag("script", Markup(style.SCRIPT))
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", main, script), lang="en") + "\n"


def _section(title: str, inner: Markup) -> Markup:
    return tag("section", tag("h2", title), inner) if inner else Markup()


def _headline(evidence: Evidence) -> Markup:
    """The answer in a few sentences, or nothing where there is nothing to compare."""
    scores = [direction.scores for direction in evidence.compared()]
    if not scores:
        return Markup()

    def means(kind: str, form: str) -> Markup:
        parts = []
        for model in evidence.models:
            value = mean([v for score in scores if (v := getattr(score[model], kind)) is not None])
            parts += [", " if parts else "", tag("b", tables.text(value, form)), f" for {model}"]
        return join(parts)

    sentences = [
        f"Over {len(scores)} directions, a translation costs, in bits per byte, ", means("given", ".2f"), ". ",
        "Compared with the same text alone, its source saves (below zero, it costs) ", means("gain", tables.SHARE),
        " of the bits. Compared with the source of another sentence, which gives away only the language and the form, ",
        "the right one saves ", means("content_gain", tables.SHARE), ".",
    ]  # fmt: skip
    if len(evidence.models) > 1:
        first, second = evidence.models[-2:]
        pairs = [(score[second].content_gain, score[first].content_gain) for score in scores]
        points = [100 * (a - b) for a, b in pairs if a is not None and b is not None]
        if len(points) > 1:
            error = statistics.stdev(points) / len(points) ** 0.5
            sentences.append(
                f" In this, {second} is {statistics.mean(points):+z.1f} points from {first}, with a standard error of "
                f"{error:.1f} over directions."
            )
    return tag("p", *sentences, class_="lead")


def _tiles(evidence: Evidence) -> Markup:
    compared = evidence.compared()
    tiles = [(len(evidence.models), "models"), (len(compared), "directions scored")]
    tiles.append((sum(direction.n for direction in compared), "sentences scored for each model"))
    if evidence.corpus:
        entries = evidence.corpus.languages.values()
        tokens = sum(entry.splits["train"].tokens for entry in entries if "train" in entry.splits)
        corpus = [(len(evidence.corpus.languages), "languages in the corpus"), (len(evidence.corpus.pairs), "pairs")]
        tiles = [*corpus, (tokens, "whitespace tokens of text for training"), *tiles]
    return tag("div", *(tag("div", tag("b", f"{n:,}"), tag("span", label)) for n, label in tiles), class_="tiles")


def _models(evidence: Evidence) -> Markup:
    note = (
        "Means over all directions, each with the same weight. Training losses of models that were trained on "
        "different text do not compare; validation losses do: all are over the same held-out text."
    )
    return join([_table(tables.models(evidence)), tag("p", note, class_="note")])


def _by_language(evidence: Evidence) -> Markup:
    """Two dot plots in the same order of languages: by the last model's gain from content, best first."""
    into, out_of = evidence.compared(into_english=False), evidence.compared(into_english=True)
    if not into + out_of:
        return tag("p", "There is no direction that every model was scored on.")
    order = [d.language for d in sorted(into, key=lambda d: -_content(d, evidence.models[-1]))]
    figures = []
    for directions, title in ((into, "Text in X: alone, and given English"), (out_of, "English: alone, and given X")):
        by_language = {direction.language: direction for direction in directions}
        rows = {
            language: [_span(by_language[language], model) for model in evidence.models]
            for language in dict.fromkeys([*order, *by_language])
            if language in by_language
        }
        if rows:
            figures.append(_figure(title, dot_plot(rows, evidence.models, "bits per UTF-8 byte")))
    note = (
        "Hollow: the text alone. Full: the same text given its source. Tick: given the source of another sentence, "
        "that is, with the language and the form known but not the content. Further left is better. Sorted by what "
        f"{evidence.models[-1]} takes from the content. Bytes per letter differ between scripts, so compare within "
        "a row, not between rows."
    )
    return join([_legend(evidence), tag("p", note, class_="note"), tag("div", *figures, class_="figures")])


def _groups(evidence: Evidence) -> Markup:
    directions = evidence.compared(into_english=False)
    if not directions:
        return Markup()
    parts = []
    if evidence.corpus:
        points = {
            model: [
                Point(tokens, 100 * value, direction.language)
                for direction in directions
                if (tokens := evidence.pair_tokens(direction.language))
                and (value := direction.scores[model].content_gain) is not None
            ]
            for model in evidence.models
        }
        labels = ("whitespace tokens of the pair with English, both sides", "% of bits saved by content")
        colors = {model: number for number, model in enumerate(evidence.models)}
        if any(points.values()):
            title = "What the content of the source gives, by how much parallel text there is"
            parts.append(_figure(title, scatter_plot(points, colors, labels, log_x=True)))
    *few, by_script = [_table(table) for table in tables.group_tables(evidence)]
    note = (
        "From English. Gain: share of the bits that the source saves; content: the part of it that another sentence's "
        "source does not save. Each language has the same weight. Dots beyond the figure are drawn at its edge."
    )
    columns = tag("div", tag("div", *parts, *few), tag("div", by_script), class_="figures")
    return join([_legend(evidence), tag("p", note, class_="note"), columns])


def _training(evidence: Evidence) -> Markup:
    colors = {model: number for number, model in enumerate(evidence.models)}
    figures = []
    for name, title, unit in (
        ("loss", "Training loss, each on its own mixture", NATS),
        ("validation_loss/mono", "Validation loss, text alone", NATS),
        ("validation_loss/pair", "Validation loss, sentence pairs", NATS),
        ("gradient_norm", "Gradient norm before clipping", "norm"),
    ):
        lines = {model: run.series[name] for model, run in evidence.runs.items() if run.series.get(name)}
        if lines:
            figures.append(_figure(title, line_plot(lines, colors, ("step", unit))))
    return join([_legend(evidence), tag("div", *figures, class_="figures")]) if figures else Markup()


def _samples(evidence: Evidence) -> Markup:
    if not evidence.samples:
        return Markup()
    sizes = [run.num_parameters for run in evidence.runs.values() if run.num_parameters]
    warning = Markup()
    if sizes and max(sizes) < SMALL_MODEL:
        text = (
            f"A model of {max(sizes):,} parameters does not translate. These outputs show what it has picked up of "
            "the form, the script and the words; the bits above are the measurement."
        )
        warning = tag("p", text, class_="warning")
    return join([warning, *(_sample(sample, evidence.models) for sample in evidence.samples)])


def _sample(sample: Sample, models: Sequence[str]) -> Markup:
    cells = [("prompt", sample.prompt, ""), ("reference", sample.reference, "")]
    cells += [(m, sample.outputs[m], f"c{number}") for number, m in enumerate(models) if m in sample.outputs]
    rows = [
        tag("tr", tag("th", label, class_=color), tag("td", text or "(nothing)", dir="auto", class_="text"))
        for label, text, color in cells
    ]
    return tag("div", tag("h3", sample.language.replace("-", " to ")), tag("table", *rows), class_="scroll sample")


def _all_languages(evidence: Evidence) -> Markup:
    note = "Click a heading to sort. n: sentences scored in this direction; with few, small differences are chance."
    return join([tag("p", note, class_="note"), tag("div", _table(tables.by_language(evidence)), class_="tall")])


def _notes(evidence: Evidence) -> Markup:
    items = [
        "Bits per byte: minus log2 of the probability of the target text, divided by its UTF-8 bytes, over all "
        "sentences of a direction. Held-out sentences; the same ones for every model.",
        "Gain: 1 - (bits given the source) / (bits alone). As a share it compares between scripts.",
        "Content: (bits given another sentence's source - bits given the right source) / (bits alone). A model "
        "that never saw the form of the prompt can gain from it nonetheless, or lose.",
        "What is not here: whether an output is fluent or right. That needs translation benchmarks.",
    ]
    if evidence.corpus:
        licences = ", ".join(f"{name} ({licence})" for name, licence in sorted(evidence.corpus.licences.items()))
        items.append(f"Corpus {evidence.corpus.fingerprint[:12]}, from {licences or 'sources without a licence'}.")
    hashes = dict.fromkeys((row.benchmark, row.prompt_hash, row.harness_version) for row in evidence.results)
    items += [f"{name}: prompts {prompts[:12]}, scored by {version}." for name, prompts, version in hashes]
    return tag("ul", *(tag("li", item) for item in items))


def _content(direction: Direction, model: str) -> float:
    """What to sort by; directions without a control come last."""
    value = direction.scores[model].content_gain
    return -math.inf if value is None else value


def _span(direction: Direction, model: str) -> Span:
    score = direction.scores[model]
    return Span(score.alone, score.given, score.other)


def _figure(title: str, drawing: Markup) -> Markup:
    return tag("figure", tag("figcaption", title), drawing)


def _legend(evidence: Evidence) -> Markup:
    keys = [tag("span", tag("i", class_=f"c{n}"), model) for n, model in enumerate(evidence.models)]
    return tag("p", *keys, class_="legend")


def _table(table: tables.Table) -> Markup:
    head = [tag("th", column.name, class_="n" if column.format else None) for column in table.columns]
    rows = [
        tag("tr", *(
            tag("td", tables.text(value, column.format), class_="n" if column.format else None,
                data_value=repr(value) if column.format and value is not None else None)
            for value, column in zip(row, table.columns, strict=True)
        ))
        for row in table.rows
    ]  # fmt: skip
    inner = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="sortable", id=table.name)
    return tag("div", inner, class_="scroll")
