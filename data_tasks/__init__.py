"""SeqIO tasks and mixtures of a corpus: one task per language and per language pair, made from its manifest.

Owns what a document is: how records are read, rendered as text and written as ids between BOS and EOS. It does not
decide how much of a task is drawn for training; that is `pack`'s business, as are rows.

SeqIO and TensorFlow are imported by `register` and not before. Importing this package defines nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from emma_jax import command_line
from emma_jax.manifest import Manifest
from emma_jax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Registered:
    """Names that SeqIO knows now: `mono.swh_Latn`, `pair.eng_Latn-swh_Latn`; `component.<name>`, `bilingual`, ..."""

    tasks: tuple[str, ...]
    mixtures: tuple[str, ...]


def register(
    corpus: Manifest,
    tokenizer: Tokenizer,
    rendering: ConfigDict,
    *,
    mixture: Mapping[str, float],
    components: Mapping[str, ConfigDict],
) -> Registered:
    """The names of all tasks and mixtures of the corpus, which `seqio.get_mixture_or_task` finds from now on.

    `rendering` and `mixture` are config.rendering and config.mixture, `components` is `mixtures.resolved(config.pack)`.
    What an earlier call defined is replaced, or left as it is if the arguments are the same. Shards are not looked at
    before a task is read.

    Raises ValueError for a rendering that cannot be, for a component that matches no task, and for a mixture of unknown
    components.
    """
    command_line.require_extra("data", "seqio", "tensorflow")
    from data_tasks import tasks

    return Registered(*tasks.register(corpus, tokenizer, rendering, dict(mixture), dict(components)))
