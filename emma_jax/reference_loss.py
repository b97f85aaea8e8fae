"""What a model's loss should be: a few rows and their log-probabilities by another implementation, in the workdir.

`verification` computes and writes them when it has compared a workdir with transformers; a run that starts from that
workdir scores the same rows and is held to it. It computes nothing itself.
"""

import dataclasses
import json
from collections.abc import Sequence

from etils import epath

VERSION = 1
FILE = "reference_loss.json"


@dataclasses.dataclass(frozen=True)
class Reference:
    """Rows of ids, each a document; for each, log p of every id after its first in nats; and who computed them."""

    rows: Sequence[Sequence[int]]
    log_probabilities: Sequence[Sequence[float]]
    computed_by: str

    def loss(self, length: int) -> float:
        """Mean loss in nats per target, over at most the first `length` targets of each row.

        >>> Reference([[1, 5, 7], [1, 9]], [[-1.0, -4.0], [-3.0]], "").loss(length=1)
        2.0
        """
        logs = [log for row in self.log_probabilities for log in row[:length]]
        return -sum(logs) / len(logs)


def write(workdir, reference: Reference) -> None:
    """Writes the reference of the model at step 0 of `workdir`, whole or not at all."""
    path = epath.Path(workdir) / FILE
    unfinished = path.with_name(FILE + ".partial")
    unfinished.write_text(json.dumps({"version": VERSION, **dataclasses.asdict(reference)}) + "\n")
    unfinished.replace(path)


def read(workdir) -> Reference | None:
    """The reference of `workdir`, or None if it has none; raises ValueError if it is damaged."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        if content.pop("version") != VERSION:
            raise ValueError("it is of another version")
        reference = Reference(**content)
        if [len(row) - 1 for row in reference.rows] != [len(logs) for logs in reference.log_probabilities]:
            raise ValueError("its rows and log-probabilities do not match")
        return reference
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and run emma_jax.hf verify again") from error
