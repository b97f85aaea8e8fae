"""What a model has answered already, kept on disk, so that a run that was killed computes nothing twice.

A file has one JSON object a line, `key` and `response`, and grows while the model works. Owns nothing of what is asked:
a key is a digest of all that the response depends on.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any


def digest(content: Any) -> str:
    """A short hash of what can be written as JSON.

    >>> digest(["a", 1]) == digest(("a", 1)) != digest(["a", 2])
    True
    """
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Responses:
    """The responses in the file `path`, and those that are added to it; without a path they are only remembered.

    A line that was cut off by the end of a run is dropped. Raises ValueError at any other line that is no response.
    """

    def __init__(self, path: str | None = None, writes: bool = True):
        self._responses: dict[str, Any] = {}
        self._path = pathlib.Path(path) if path else None
        self._writes = writes and bool(path)
        if self._path and self._path.exists():
            self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._responses

    def __getitem__(self, key: str) -> Any:
        return self._responses[key]

    def __len__(self) -> int:
        return len(self._responses)

    def add(self, responses: Iterable[tuple[str, Any]]) -> None:
        """Keeps each (key, response); they are on disk when this returns."""
        responses = dict(responses)
        self._responses |= responses
        if self._writes and responses:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps({"key": k, "response": r}) + "\n" for k, r in responses.items())

    def _read(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self._responses[record["key"]] = record["response"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self._path}:{number} is no response ({error!r}); delete the file") from error
        if self._writes and len(whole) < len(content):
            with open(self._path, "r+b") as file:
                file.truncate(len(whole))
