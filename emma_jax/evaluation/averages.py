"""Tables of results as the paper's group publishes them: a row for each language, a column for each model, averages.

Owns the folder `tables` beside `results.jsonl`. Resource groups are those of the paper's monolingual corpus.
"""

import collections
import csv
import io
from collections.abc import Sequence

from etils import epath

from emma_jax import languages, paper_corpus
from emma_jax.evaluation.results import Result

FOLDER, AVERAGE, UNLISTED = "tables", "average", "unlisted"


def write(folder, rows: Sequence[Result]) -> None:
    """Writes a CSV for each benchmark and metric among `rows`: the languages, then groups by resource, then all."""
    tables = collections.defaultdict(dict)
    for row in rows:
        tables[table_name(row)].setdefault(row.language, {})[row.model] = row.value
    models = list(dict.fromkeys(row.model for row in rows))
    for name, of_languages in tables.items():
        target = epath.Path(folder) / FOLDER / f"{name}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(to_csv(of_languages, models))


def table_name(row: Result) -> str:
    """The benchmark and metric of a row; directions into and from English are apart.

    >>> table_name(Result("m", "flores200", "swh_Latn-eng_Latn", "chrf++", 1.0, 1, 3, "", 0, ""))
    'flores200_x_eng_chrf++'
    """
    sides = row.language.split("-")
    way = ""
    if len(sides) == 2:
        way = "_".join(["", *("eng" if side == languages.ENGLISH else "x" for side in sides)])
    return f"{row.benchmark}{way}_{row.metric}"


def to_csv(of_languages: dict[str, dict[str, float]], models: Sequence[str]) -> str:
    """The table of values by language and model; an average is over the languages that all of the models have.

    >>> print(to_csv({"swh_Latn": {"a": 1.0, "b": 0.5}, "eng_Latn": {"a": 0.0, "b": 1.0}}, ["a", "b"]))
    language,resource,languages,a,b
    eng_Latn,high,1,0.0,1.0
    swh_Latn,low,1,1.0,0.5
    average,high,1,0.0,1.0
    average,low,1,1.0,0.5
    average,all,2,0.5,0.75
    <BLANKLINE>
    """
    models = [model for model in models if any(model in values for values in of_languages.values())]
    groups = collections.defaultdict(list)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["language", "resource", "languages", *models])
    for language, values in sorted(of_languages.items()):
        resource = resource_group(language)
        writer.writerow([language, resource, 1, *(values.get(model, "") for model in models)])
        if len(values) == len(models):
            groups[resource].append([values[model] for model in models])
    every = [row for rows in groups.values() for row in rows]
    for resource, rows in [*sorted(groups.items()), *([("all", every)] if every else [])]:
        means = [round(sum(column) / len(rows), 6) for column in zip(*rows, strict=True)]
        writer.writerow([AVERAGE, resource, len(rows), *means])
    return output.getvalue()


def resource_group(language: str) -> str:
    """The resource class of a language, or of a direction's language that is not English.

    >>> resource_group("eng_Latn-yor_Latn"), resource_group("mis_Latn")
    ('medium', 'unlisted')
    """
    sides = [side for side in language.split("-") if side != languages.ENGLISH] or [languages.ENGLISH]
    entry = paper_corpus.paper().languages.get(sides[-1])
    return entry.resource_class if entry else UNLISTED
