"""Rows of benchmark files, on disk or of the Hub. What is wrong with one on disk is told with its file and line."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

Fields = Mapping[str, Callable[[Any], Any]]  # name of a field -> what makes its value, or raises ValueError


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"is {value!r}, expected a text")
    return value


def integer(value: Any) -> int:
    """A whole number, also with commas between thousands.

    >>> integer("2,125"), integer(3)
    (2125, 3)
    """
    try:
        return int(value.replace(",", "")) if isinstance(value, str) else int(value)
    except (ValueError, TypeError):
        raise ValueError(f"is {value!r}, expected a whole number") from None


def one_of(values: Sequence[Any]) -> Callable[[Any], Any]:
    """A field that is one of `values`.

    >>> one_of(["cause", "effect"])("reason")
    Traceback (most recent call last):
    ValueError: is 'reason', expected one of 'cause', 'effect'
    """

    def check(value):
        if value not in values:
            raise ValueError(f"is {value!r}, expected one of {', '.join(map(repr, values))}")
        return value

    return check


def table(path: Path, fields: Fields, header: bool, quoted: bool) -> list[dict[str, Any]]:
    """The rows of a file of columns with tabs between, as `fields` makes them.

    With `header` the first line names the columns, of which `fields` are some; without, `fields` are all, in order.
    `quoted` says whether a value may stand in quotation marks, as programs for tables write it.
    """
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        columns = next(reader, []) if header else list(fields)
        if missing := fields.keys() - set(columns):
            raise ValueError(f"{path} has no column {min(missing)}; it has {', '.join(columns) or 'nothing'}")
        line = reader.line_num + 1
        for values in reader:
            if len(values) != len(columns):
                raise ValueError(
                    f"{path} line {line} has {len(values)} columns, expected {len(columns)}: {', '.join(columns)}"
                )
            rows.append(_row(dict(zip(columns, values, strict=True)), fields, path, line))
            line = reader.line_num + 1
    return _some(rows, path)


def json_lines(path: Path, fields: Fields, optional: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a file with a JSON object a line, as `fields` makes them; other keys are left out.

    Of the fields that are `optional` those that are missing are made of None.
    """
    rows = []
    for line, content in _lines(path):
        if content.strip():
            try:
                row = json.loads(content)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {line} is not JSON: {error.msg}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path} line {line} is not a JSON object")
            rows.append(_row(dict.fromkeys(optional) | row, fields, path, line))
    return _some(rows, path)


def sentences(path: Path) -> list[str]:
    """The lines of a file, none of which may be empty."""
    rows = []
    for line, content in _lines(path):
        if not content.strip():
            raise ValueError(f"{path} line {line} is empty; each line must have a sentence")
        rows.append(content.strip())
    return _some(rows, path)


def from_hub(path: str, name: str, split: str) -> datasets.Dataset:
    """A split of a dataset of the Hub. Raises ValueError with the way out if it cannot be read."""
    try:
        return datasets.load_dataset(path, name, split=split)
    except Exception as error:  # of the network or the library, which may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} ({name}) cannot be read from the Hub: {reason}; name a folder that holds data: "
            '--data=DIR of emma_jax.evaluate, or --metadata \'{"data": "DIR"}\' of emma_jax.evaluation'
        ) from error


def _some(rows: list[Any], path: Path) -> list[Any]:
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _row(row: Mapping[str, Any], fields: Fields, path: Path, line: int) -> dict[str, Any]:
    made = {}
    for name, make in fields.items():
        if name not in row:
            raise ValueError(f"{path} line {line} has no {name}; it has {', '.join(row) or 'nothing'}")
        try:
            made[name] = make(row[name])
        except ValueError as error:
            raise ValueError(f"{path} line {line}: {name} {error}") from None
    return made


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; U+2028 and the like end none."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line, content in enumerate(file, 1):
            yield line, content.rstrip("\n")
