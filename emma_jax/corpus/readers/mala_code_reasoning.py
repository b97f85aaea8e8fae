"""Reader of the files of mala-code-reasoning and its second version: code, papers and instructions in JSON lines.

What a file holds is in the name of its folder, or in its own: `stack/00001.jsonl.gz`, `stack-00001.jsonl.gz`. That a
record has its text in `text` is an assumption, for the files were not seen; where it has the fields of an instruction
instead, these are joined by blank lines. The language of the texts is that of `source.languages`, if given.
"""

from collections.abc import Iterator

import pyarrow as pa

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import file_names, json_lines, records
from emma_jax.corpus.source import File, Part, Source
from emma_jax.corpus.statistics import Report

KINDS = {
    "stack": "code",
    "peS2o": "paper",
    "arxiv": "paper",
    "arxiv-instruct": "instruction",
    "code-instruct": "instruction",
    "necode-instruct": "instruction",
    "reason-instruct": "instruction",
}
LAYOUTS = (
    records.Layout(("text",), ((),)),
    records.Layout(("instruction", "input", "output"), ((),)),
    records.Layout(("prompt", "response"), ((),)),
)


def parts(source: Source) -> list[Part]:
    """A part for each file. Raises ValueError for a file that is none of KINDS, or has no columns of LAYOUTS.

    >>> _collection(File("v2/peS2o/train-001.jsonl.gz", ""))
    'paper.peS2o'
    """
    found, unknown = [], []
    for file in source_lib.files(source, json_lines.SUFFIXES):
        if collection := _collection(file):
            found.append(Part(source, file.name, (file,), records.announced(source), collection))
        else:
            unknown.append(file.name)
    if unknown:
        raise ValueError(
            f"source {source.name!r} has {len(unknown)} files whose names are none of {', '.join(KINDS)}, such as "
            f"{unknown[0]!r}; read them with the reader 'records' and a kind ({', '.join(source_lib.COLLECTIONS)})"
        )
    records.check(found, LAYOUTS)
    return found


def read(part: Part, report: Report) -> Iterator[pa.RecordBatch]:
    """Batches of DOCUMENTS."""
    return records.read_layouts(part, report, LAYOUTS)


def _collection(file: File) -> str:
    """Kind and name of the collection that a file belongs to, or ""."""
    spelt = {name.lower(): name for name in KINDS}
    name = next((spelt[name.lower()] for name in file_names.names(file) if name.lower() in spelt), "")
    return f"{KINDS[name]}.{name}" if name else ""
