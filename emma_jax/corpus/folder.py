"""The folder of a corpus: whether it holds this corpus, the unfinished work of it, or what must be left alone.

The manifest is written last: a folder without one holds nothing that can be used. One of the same content is done; so
is, as far as it got, an interrupted run of the same, whose finished pieces are not done again.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging
from etils import epath

from emma_jax import manifest as manifest_lib

EXCHANGE = "exchange"  # folder of unfinished work within that of the corpus; without it nothing there is ours to remove
PLAN = "plan.json"  # in it: what the unfinished work is of
FORMAT = 2  # of the unfinished work


@dataclasses.dataclass(frozen=True)
class Content:
    """All that the bytes of a corpus depend on: keys of the config, the seed, and what each source is, by name."""

    config: Mapping[str, Any]
    seed: int
    sources: Mapping[str, Mapping[str, Any]]
    licences: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 in hex of all of it."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()

    def differences(self, config: Mapping[str, Any], seed: int, sources: Mapping[str, Any]) -> str:
        """What is other in another corpus than in this one, for a sentence.

        >>> content = Content(dict(filters=dict(pairs=dict(length_ratio=3.0))), 0, dict(web=1), {})
        >>> content.differences(dict(filters=dict(pairs=dict(length_ratio=2.0))), 1, dict(web=2))
        'another config.corpus.filters.pairs.length_ratio (2.0, now 3.0), another seed (1, now 0), other files of web'
        """
        own, other = dict(_leaves(self.config)), dict(_leaves(config))
        changed = [key for key in sorted({*own, *other}) if own.get(key) != other.get(key)]
        found = [f"another config.corpus.{key} ({other.get(key)}, now {own.get(key)})" for key in changed]
        if seed != self.seed:
            found.append(f"another seed ({seed}, now {self.seed})")
        named = sorted(name for name in {*self.sources, *sources} if self.sources.get(name) != sources.get(name))
        if named:
            found.append(f"other files of {', '.join(named)}")
        return ", ".join(found) or "other licences"


def check_same(manifest: manifest_lib.Manifest, content: Content) -> None:
    """Raises ValueError if the manifest is of another corpus than of this content, or a shard is missing."""
    if manifest.config_hash != content.sha256:
        raise ValueError(
            f"{manifest.folder!r} holds a corpus made from "
            f"{content.differences(manifest.config, manifest.seed, manifest.sources)}; choose another "
            "config.corpus.folder, or delete this one"
        )
    files = (file for entry in manifest.tasks.values() for split in entry.splits.values() for file in split.files)
    if missing := next((file for file in files if not epath.Path(manifest.path(file)).exists()), ""):
        raise ValueError(
            f"{manifest.path(missing)} is missing from a finished corpus; delete its folder and build it again"
        )


def begin(folder: epath.Path, content: Content, num_buckets: int) -> int:
    """Makes the folder, and keeps in it what an interrupted run of the same left. Returns the number of buckets.

    Raises ValueError if there is something in it that no run of ours left, or it cannot be made.
    """
    plan = folder / EXCHANGE / PLAN
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"config.corpus.folder is {str(folder)!r}, which is a file; name a folder")
    try:
        if plan.exists():
            return _num_buckets_of_same(folder, plan.read_text(), content)
        # A run that ended before it wrote its plan has left the folder of the plan, and nothing else.
        is_begun = plan.parent.exists() and {path.name for path in plan.parent.iterdir()} <= {plan.name + ".tmp"}
        found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise ValueError(f"config.corpus.folder {str(folder)!r} cannot be read: {error}") from error
    others = [name for name in found if not (is_begun and name == EXCHANGE)]
    if others:
        raise ValueError(f"{folder / others[0]} is in the way, and of no corpus; choose another config.corpus.folder")
    planned = dict(format=FORMAT, num_buckets=num_buckets, **dataclasses.asdict(content))
    try:
        plan.parent.mkdir(parents=True, exist_ok=True)
        unfinished = plan.with_name(plan.name + ".tmp")
        unfinished.write_text(json.dumps(planned))
        unfinished.replace(plan)
    except OSError as error:
        raise ValueError(f"config.corpus.folder {str(folder)!r} cannot be written to: {error}") from error
    return num_buckets


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Within it, no other process of this machine works in the folder, where `begin` was called.

    Raises ValueError if another one does. Of a bucket nothing is known.
    """
    path = folder / EXCHANGE / PLAN
    if "://" in str(folder):
        yield
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system ends it with the process
        except BlockingIOError as error:
            raise ValueError(
                f"another build is at work in {str(folder)!r}; wait for it, or choose another config.corpus.folder"
            ) from error
        yield


def remove_exchange(folder: epath.Path) -> None:
    """Removes finished work, if it is ours; results first, so that after an interruption nothing passes for done."""
    exchange = folder / EXCHANGE
    if (exchange / PLAN).exists():
        found = {path.name: path for path in exchange.iterdir()}
        for _, path in sorted(found.items(), key=lambda item: (item[0] == PLAN, not item[0].startswith("results"))):
            path.rmtree() if path.is_dir() else path.unlink()
        if exchange.exists():  # a bucket has no empty folders
            exchange.rmtree()


def _num_buckets_of_same(folder: epath.Path, plan: str, content: Content) -> int:
    try:
        planned = json.loads(plan)
    except json.JSONDecodeError:
        planned = None
    if not isinstance(planned, dict) or planned.get("format") != FORMAT:
        raise ValueError(
            f"{str(folder)!r} holds a corpus that another version of emma_jax began; delete it, or choose another "
            "config.corpus.folder"
        )
    found = Content(*(planned[field.name] for field in dataclasses.fields(Content)))
    if found.sha256 != content.sha256:
        what = content.differences(found.config, found.seed, found.sources)
        raise ValueError(
            f"{str(folder)!r} holds an unfinished corpus of {what}; run it with those again, choose another "
            "config.corpus.folder, or delete this one"
        )
    logging.info("going on with the unfinished corpus in %s", folder)
    return planned["num_buckets"]


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
