"""The tables of a report: one row for each model, language or group, as values, and written as CSV, Markdown or LaTeX.

Owns columns and their formats; what the values mean is said by the page.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from emma_jax import languages
from emma_jax.reporting.data import Direction, Evidence, by_group, mean

Value = str | int | float | None
BITS, SHARE, COUNT, TEXT = ".3f", "z.1%", ",d", ""


class Column(NamedTuple):
    """A heading and how its values are written: a format of Python's `format`, "" for text."""

    name: str
    format: str


class Table(NamedTuple):
    """Rows of values below columns; `name` is that of its files."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]


def text(value: Value, format: str) -> str:
    """A value as a reader sees it.

    >>> text(-0.0001, SHARE), text(12345, COUNT), text(None, BITS)
    ('0.0%', '12,345', '–')
    """
    return "–" if value is None else value if isinstance(value, str) else f"{value:{format}}"


def all_tables(evidence: Evidence) -> list[Table]:
    """Every table of the report: what it shows, and each benchmark whole."""
    benchmarks = dict.fromkeys(row.benchmark for row in evidence.results)
    groups = group_tables(evidence) if evidence.compared() else []
    return [models(evidence), by_language(evidence), *groups, *(whole(evidence, name) for name in benchmarks)]


def models(evidence: Evidence) -> Table:
    """One row for each model: its run, its last losses, and means over the directions that all were scored on."""
    rows = []
    for model in evidence.models:
        run = evidence.runs.get(model)
        scores = [direction.scores[model] for direction in evidence.compared()]
        others = [score for score in scores if score.other is not None]
        rows.append(
            [
                model,
                run and run.num_parameters,
                run and run.series["loss"][-1][0],
                run and int(sum(tokens for _, tokens in run.series.get("tokens", ()))),
                run and run.last("loss"),
                run and run.last("validation_loss/mono"),
                run and run.last("validation_loss/pair"),
                mean([score.alone for score in scores]),
                mean([score.given for score in scores]),
                mean([score.other for score in others]),
                mean([score.gain for score in scores]),
                mean([score.content_gain for score in others]),
            ]
        )
    names = "model;parameters;steps;tokens;training loss;validation loss, text;validation loss, pairs"
    bits = "bits/byte alone;given source;given another source;gain;gain from content"
    formats = [TEXT, COUNT, COUNT, COUNT, BITS, BITS, BITS, BITS, BITS, BITS, SHARE, SHARE]
    return Table("models", list(map(Column, f"{names};{bits}".split(";"), formats)), rows)


def by_language(evidence: Evidence) -> Table:
    """One row for each direction: the corpus behind it, sentences scored, and the scores of each model."""
    columns = [
        Column(name, form)
        for name, form in (("target", TEXT), ("source", TEXT), ("name", TEXT), ("class", TEXT))
        + (("pair tokens", COUNT), ("n", COUNT))
    ]
    for model in evidence.models:
        columns += [Column(f"{model} alone", BITS), Column(f"{model} given", BITS), Column(f"{model} gain", SHARE)]
        columns += [Column(f"{model} content", SHARE)]
    rows = []
    for direction in evidence.directions:
        language = direction.language
        row = [direction.target, direction.source, languages.name(language)]
        row += [evidence.resource_class(language), evidence.pair_tokens(language) or None, direction.n]
        for model in evidence.models:
            score = direction.scores.get(model)
            row += [score.alone, score.given, score.gain, score.content_gain] if score else [None] * 4
        rows.append(row)
    return Table("languages", columns, rows)


def group_tables(evidence: Evidence) -> list[Table]:
    """Mean gains from content into languages other than English, by resource class, size of the pair, and script."""

    def resource_class(direction: Direction) -> str:
        return evidence.resource_class(direction.language) or "none"

    def size(direction: Direction) -> str:
        tokens = evidence.pair_tokens(direction.language)
        return f"{10 ** int(math.log10(tokens)):,}+" if tokens else "none"

    groups: list[tuple[str, str, Callable[[Direction], str]]] = [("scripts", "script", lambda d: d.language[4:])]
    if evidence.corpus:
        groups = [("classes", "resource class", resource_class), ("sizes", "pair tokens", size), *groups]
    directions = sorted(evidence.compared(into_english=False), key=lambda d: -evidence.pair_tokens(d.language))
    tables = []
    for name, heading, group in groups:
        gains = by_group(directions, group, lambda score: score.gain)
        contents = by_group(directions, group, lambda score: score.content_gain)
        columns = [Column(heading, TEXT), Column("languages", COUNT)]
        columns += [Column(f"{model} gain", SHARE) for model in evidence.models]
        columns += [Column(f"{model} content", SHARE) for model in evidence.models]
        rows = [
            [label, count, *(values[m] for m in evidence.models), *(contents[label][1][m] for m in evidence.models)]
            for label, (count, values) in gains.items()
        ]
        tables.append(Table(name, columns, rows))
    return tables


def whole(evidence: Evidence, benchmark: str) -> Table:
    """A benchmark as the field publishes them: a row for each language and metric, a column for each model."""
    cells = {(r.language, r.metric, r.model): r for r in evidence.results if r.benchmark == benchmark}
    keys = dict.fromkeys((language, metric) for language, metric, _ in cells)
    columns = [Column("language", TEXT), Column("metric", TEXT), *(Column(m, ".4f") for m in evidence.models)]
    values = {key: [cells.get((*key, model)) for model in evidence.models] for key in keys}
    return Table(benchmark, columns, [[*key, *(cell and cell.value for cell in row)] for key, row in values.items()])


def to_csv(table: Table) -> str:
    """The table with values as they are; absent ones are empty.

    >>> to_csv(Table("t", [Column("model", ""), Column("loss", ".3f")], [["bi", 1.23456], ["mono", None]]))
    'model,loss\\nbi,1.23456\\nmono,\\n'
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    writer.writerows(table.rows)
    return stream.getvalue()


def to_markdown(table: Table) -> str:
    """The table for a README; numbers stand to the right.

    >>> print(to_markdown(Table("t", [Column("model", ""), Column("gain", ".1%")], [["bi", 0.25]])), end="")
    | model | gain |
    | --- | ---: |
    | bi | 25.0% |
    """
    head = [[column.name for column in table.columns], ["---:" if c.format else "---" for c in table.columns]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [*head, *_texts(table)])


def to_latex(table: Table) -> str:
    r"""The table as a `tabular` with rules of booktabs.

    >>> print(to_latex(Table("t", [Column("code", ""), Column("gain", ".1%")], [["swh_Latn", 0.25]])), end="")
    \begin{tabular}{lr}
    \toprule
    code & gain \\
    \midrule
    swh\_Latn & 25.0\% \\
    \bottomrule
    \end{tabular}
    """
    escapes = str.maketrans({"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "–": "--"})
    lines = [[column.name for column in table.columns], *_texts(table)]
    head, *body = [" & ".join(cell.translate(escapes) for cell in line) + r" \\" for line in lines]
    letters = "".join("r" if column.format else "l" for column in table.columns)
    top, end = [rf"\begin{{tabular}}{{{letters}}}", r"\toprule"], [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*top, head, r"\midrule", *body, *end]) + "\n"


def _texts(table: Table) -> list[list[str]]:
    return [[text(v, column.format) for v, column in zip(row, table.columns, strict=True)] for row in table.rows]
