"""How far the logits of ours and of transformers are apart, on text in many scripts and on random ids.

Both models are in memory in float32. What is compared and what follows from it is the business of `verification`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import langcodes
import numpy as np
import psutil
from absl import logging
from flax import nnx
from ml_collections import FrozenConfigDict

from emma_jax import conversion_table, model, reference_loss
from emma_jax.tokenizer import Tokenizer

ROW_TOKENS = 2048
NUM_TEXT_ROWS, NUM_RANDOM_ROWS = 4, 1
CHUNK = 128  # positions whose logits exist at one time
GIB = 2**30
# Limits of a comparison in float32. Two right implementations differ by rounding alone, some 1e-5 where logits have a
# standard deviation near 1, and that grows with their size.
MAX_DIFFERENCE = 1e-3  # of a logit, in standard deviations of the logits
MAX_DIVERGENCE = 1e-8  # mean KL(theirs || ours) per position, in nats
MIN_AGREEMENT = 0.999  # share of positions with the same most likely token
# Languages whose names for each other are the text that is scored: one or more for each script that CLDR writes.
LANGUAGES = (
    "ar am as be bn bo chr cs da de dz el en es fa ff fi fr gu he hi hu hy id ii ja jv ka km kn ko lo ml mn mni mr my "
    "ne nqo or pa pl ps ru sa sat sd si ta te th ti tr ug uk ur vi yi zgh zh"
).split()


@dataclasses.dataclass(frozen=True)
class Logits:
    """How far the logits of two models are apart, over all positions of all rows, computed in float32."""

    positions: int
    deviation: float  # standard deviation of theirs
    max_difference: float
    mean_difference: float
    divergence: float  # mean KL(theirs || ours), nats
    agreement: float

    @property
    def is_same(self) -> bool:
        """Whether all are within the limits."""
        return bool(
            self.max_difference <= MAX_DIFFERENCE * max(1.0, self.deviation)
            and self.divergence <= MAX_DIVERGENCE
            and self.agreement >= MIN_AGREEMENT
        )

    def __str__(self) -> str:
        return (
            f"{self.positions} positions: difference max {self.max_difference:.2e} mean {self.mean_difference:.2e} "
            f"(standard deviation {self.deviation:.2f}), KL {self.divergence:.2e} nats, "
            f"same most likely token {100 * self.agreement:.2f}%"
        )


def compare(
    config: dict, read: Callable[[str], np.ndarray], vocabulary: Tokenizer | None, folder: str
) -> tuple[Logits, reference_loss.Reference]:
    """(how the logits compare, theirs as log-probabilities of the rows of text).

    `config` is config.model of ours, `read` gives its unstacked parameters by path; `folder` is what transformers
    loads. Raises ValueError if the two models do not fit into memory.
    """
    _check_memory(config)
    import torch
    import transformers

    rows = sample_rows(vocabulary, config["vocab_size"], min(ROW_TOKENS, config["max_length"]))
    reference_model = transformers.LlamaForCausalLM.from_pretrained(folder).float().eval()
    frozen = FrozenConfigDict({**config, "compute_dtype": "float32", "remat": "none"})
    params = _load(frozen, read)
    sums, logs = _Sums(), []
    for number, row in enumerate(rows):
        logging.info("logits of row %d of %d", number + 1, len(rows))
        with torch.no_grad():
            hidden = reference_model.model(torch.tensor(row)[None]).last_hidden_state[0]
        our_hidden_LD, our_head_DV = _hidden(frozen, params, np.array(row, np.int32)[None])
        targets, row_logs = np.array(row[1:]), []
        for start in range(0, len(row), CHUNK):
            with torch.no_grad():
                their_logits = reference_model.lm_head(hidden[start : start + CHUNK]).numpy()
            our_logits = np.asarray(_logits(our_hidden_LD[start : start + CHUNK], our_head_DV))
            their_logs = sums.add(their_logits, our_logits)
            chunk = targets[start : start + CHUNK]
            row_logs += their_logs[np.arange(len(chunk)), chunk].tolist()
        logs.append(row_logs)
    by = f"transformers {transformers.__version__}, torch {torch.__version__}, float32"
    text = [number for number in range(len(rows)) if number < NUM_TEXT_ROWS]
    return sums.result(), reference_loss.Reference([rows[i] for i in text], [logs[i] for i in text], by)


def sample_rows(vocabulary: Tokenizer | None, vocab_size: int, length: int) -> list[list[int]]:
    """Rows of `length` ids: text in many scripts, where there is a tokenizer, and ids from all over the vocabulary."""
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, vocab_size, length).tolist() for _ in range(NUM_TEXT_ROWS + NUM_RANDOM_ROWS)]
    if vocabulary is None:
        return rows
    for number in range(NUM_TEXT_ROWS):
        ids, lines = [vocabulary.bos_id], sample_lines(number)
        while len(ids) < length:
            ids += vocabulary.encode(next(lines))
        rows[number] = ids[:length]
    return rows


def sample_lines(first: int) -> Iterator[str]:
    """Endless lines, each a few names of languages in one of them, from another place for each number `first`.

    >>> next(sample_lines(9))
    'English, Spanish, Persian, Fula\\n'
    """
    languages = LANGUAGES * 2
    for number in range(first + 3, 10**9):
        language = LANGUAGES[number % len(LANGUAGES)]
        start = (number + number // len(LANGUAGES) * 4) % len(LANGUAGES)
        names = [langcodes.Language.get(code).display_name(language) for code in languages[start : start + 4]]
        yield ", ".join(names) + "\n"


class _Sums:
    """Collects the differences of chunks of logits."""

    def __init__(self):
        self._positions = self._agree = 0
        self._max = self._sum = self._divergence = self._total = self._squares = 0.0
        self._count = 0

    def add(self, theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
        """Adds logits [positions, V] of both, and returns theirs as log-probabilities, float64."""
        theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
        difference = np.abs(theirs - ours)
        their_logs, our_logs = _log_softmax(theirs), _log_softmax(ours)
        self._positions += len(theirs)
        self._count += theirs.size
        self._agree += int(np.sum(theirs.argmax(-1) == ours.argmax(-1)))
        # A model that gives NaN must not pass: np.maximum keeps it, where max() might not.
        self._max = float(np.maximum(self._max, difference.max()))
        self._sum += difference.sum()
        self._total += theirs.sum()
        self._squares += np.square(theirs).sum()
        self._divergence += np.sum(np.exp(their_logs) * (their_logs - our_logs))
        return their_logs

    def result(self) -> Logits:
        mean = self._total / self._count
        deviation = np.sqrt(self._squares / self._count - mean**2)
        return Logits(
            self._positions, float(deviation), self._max, self._sum / self._count,
            float(self._divergence / self._positions), self._agree / self._positions,
        )  # fmt: skip


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _check_memory(config: dict) -> None:
    needed = 2 * conversion_table.num_bytes(FrozenConfigDict(config), np.dtype(np.float32))
    there = psutil.virtual_memory().available
    if needed > there:
        raise ValueError(
            f"comparing logits holds both models in float32, {needed / GIB:.1f} GiB, and this machine has "
            f"{there / GIB:.1f} GiB free; --logits=no compares configs and tensors only"
        )


def _load(config: FrozenConfigDict, read: Callable[[str], np.ndarray]) -> model.Params:
    """Stacked float32 parameters."""
    _, shapes, _ = model.abstract(config)

    def load(path, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = "/".join(key.key for key in path)
        if path[0].key != "layers":
            return jnp.asarray(read(name), jnp.float32)
        array = np.empty(leaf.shape, np.float32)
        for layer in range(config.num_layers):
            array[layer] = read(f"{name}/{layer}")
        return jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(load, shapes)


@functools.partial(jax.jit, static_argnums=0)
def _hidden(config, params, tokens_BL):
    with jax.default_matmul_precision("highest"):
        llama = nnx.merge(model.abstract(config)[0], params)
        positions_BL = jnp.arange(tokens_BL.shape[1])[None]
        hidden_BLD, _ = llama(tokens_BL, positions_BL, jnp.ones_like(tokens_BL))
        return hidden_BLD[0], llama.head_matrix()


@jax.jit
def _logits(hidden_LD, head_DV):
    return jnp.matmul(hidden_LD, head_DV, precision="highest")
