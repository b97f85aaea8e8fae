"""The manifest of a corpus: its schema, reading and writing of `manifest.json`, and reading of the shards it names.

Owns the file format between `corpus` (the only writer) and everyone who reads a corpus. It does not build a corpus,
and knows nothing of tasks, tokens of a model or rows.

Shards are Parquet: `text, lang` in monolingual/<lang>/ and, for documents that are no text of a language, in
<kind>/<collection>/ (code/stack/); `src_text, tgt_text, src_lang, tgt_lang` in bilingual/<a>-<b>/ with a < b, where src
is a. Files are named relative to the manifest's folder, so that a corpus can
be moved.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

VERSION = 3
FILE_NAME = "manifest.json"
SPLITS = ("train", "validation")
OWN_FIELDS = {"config_hash", "refused_codes", "bad_files"}  # of every version; what has none of them is not ours


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a language or pair; `tokens` are between whitespace, `bytes` are UTF-8, of both sides of a pair."""

    files: tuple[str, ...]
    rows: int
    tokens: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """A language, pair or collection; `sources` counts rows by source, `name` is the language's in English.

    The resource class of a collection is "".
    """

    splits: Mapping[str, Split]
    resource_class: str
    sources: Mapping[str, int]
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All that is known of the corpus in `folder`; equal to what stands in its `manifest.json`.

    `counts` is stage -> reason -> records, `records` stage -> language, pair or collection -> records that it let pass.
    `mapped_codes` are dicts of source, spelling, code, doubts and records, before the script is told from the text;
    `refused_codes` of code, source, reason and records; `bad_files` of file and reason. `examples` is "stage/reason" ->
    some records that were dropped. `licences` is source -> licence, `sources` what each source was when it was read,
    `source_records` source -> "read" or "kept" (by codes and cleaning) -> records, with the pairs that were aligned.
    `config` has the keys of config.corpus that decide what is in it; `config_hash` is of these, seed and sources.
    """

    folder: str
    version: int
    seed: int
    config_hash: str
    languages: Mapping[str, Entry]
    pairs: Mapping[str, Entry]
    counts: Mapping[str, Mapping[str, int]]
    refused_codes: tuple[Mapping[str, Any], ...]
    bad_files: tuple[Mapping[str, Any], ...]
    licences: Mapping[str, str]
    sources: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    collections: Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    records: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    mapped_codes: tuple[Mapping[str, Any], ...] = ()
    examples: Mapping[str, list[list[str]]] = dataclasses.field(default_factory=dict)
    source_records: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def tasks(self) -> dict[str, Entry]:
        """What each task is made of: mono.<language>, pair.<pair>, and collections by their own names."""
        mono = {f"mono.{code}": entry for code, entry in self.languages.items()}
        return mono | {f"pair.{pair}": entry for pair, entry in self.pairs.items()} | dict(self.collections)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the manifest's canonical JSON: equal for equal corpora, wherever the folder is."""
        return hashlib.sha256(_to_json(self).encode()).hexdigest()

    def path(self, file: str) -> str:
        """The absolute path of a file that the manifest names."""
        folder = epath.Path(self.folder)
        # epath would put the current folder before a bucket.
        return str((folder if "://" in self.folder else folder.resolve()) / file)

    def read(self, entry: Entry, split: str) -> Iterator[pa.RecordBatch]:
        """Record batches of one split in stored order; none where the entry does not have the split.

        Raises ValueError if a shard is missing or damaged.
        """
        for file in entry.splits[split].files if split in entry.splits else ():
            try:
                with epath.Path(self.path(file)).open("rb") as stream:
                    yield from pq.ParquetFile(stream).iter_batches()
            except (OSError, pa.ArrowInvalid) as error:
                raise ValueError(
                    f"corpus shard {self.path(file)} is missing or damaged ({error}); build the corpus again"
                ) from error


def load(folder: str) -> Manifest:
    """The manifest of the corpus in `folder`.

    Raises ValueError if there is none, if it is of another version or no corpus of ours, or if it is not whole.
    """
    path = epath.Path(folder) / FILE_NAME
    if not path.exists():
        raise ValueError(f"there is no corpus in {str(folder)!r} ({FILE_NAME} is missing); run emma_jax.corpus first")
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not OWN_FIELDS & content.keys():
            raise ValueError(
                f"{path} is no manifest of emma_jax; name the folder of a corpus, or a new one to build in"
            )
        if content["version"] != VERSION:
            is_older = content["version"] < VERSION
            way_out = "delete the folder and build the corpus again" if is_older else "update emma_jax"
            raise ValueError(
                f"{str(folder)!r} holds a corpus of {'an older' if is_older else 'a newer'} version "
                f"({content['version']}) than this program reads ({VERSION}); {way_out}"
            )
        return _from_json(str(folder), content)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); delete it and build the corpus again") from error


def write(manifest: Manifest) -> None:
    """Writes `manifest.json` into the manifest's folder, whole or not at all."""
    path = epath.Path(manifest.folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(_to_json(manifest))
    temporary.replace(path)


def _to_json(manifest: Manifest) -> str:
    content = dataclasses.asdict(manifest)
    del content["folder"]
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _from_json(folder: str, content: dict[str, Any]) -> Manifest:
    return Manifest(
        folder=folder,
        version=content["version"],
        seed=content["seed"],
        config_hash=content["config_hash"],
        languages={code: _entry(value) for code, value in sorted(content["languages"].items())},
        pairs={pair: _entry(value) for pair, value in sorted(content["pairs"].items())},
        counts=content["counts"],
        refused_codes=tuple(content["refused_codes"]),
        bad_files=tuple(content["bad_files"]),
        licences=content["licences"],
        sources=content["sources"],
        collections={name: _entry(value) for name, value in sorted(content["collections"].items())},
        records=content["records"],
        mapped_codes=tuple(content["mapped_codes"]),
        examples=content["examples"],
        source_records=content["source_records"],
        config=content["config"],
    )


def _entry(content: dict[str, Any]) -> Entry:
    splits = {
        name: Split(tuple(split["files"]), split["rows"], split["tokens"], split["bytes"])
        for name, split in content["splits"].items()
    }
    return Entry(splits, content["resource_class"], content["sources"], content.get("name", ""))
