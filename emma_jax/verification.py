"""Whether two folders hold the same model: their configs, their tensors, and the logits that transformers computes.

Each is a workdir or a Hugging Face folder. Tensors are compared one by one in bounded memory; logits are those that
ours computes of the one folder and transformers of the other (`logit_comparison`).
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
from absl import logging

from emma_jax import command_line, conversion, conversion_table, logit_comparison, reference_loss
from emma_jax.logit_comparison import Logits
from emma_jax.tokenizer import Tokenizer

# Of what does not change the function: how it is computed here, and how other weights would be drawn.
FREE_KEYS = ("compute_dtype", "remat", "attention", "initializer_range")
EQUAL_BYTES = 2**22  # compared at a time


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two: its config.model, dtype and reader of each array by its path, its tokenizer or None."""

    folder: str
    is_workdir: bool
    config: dict
    dtypes: dict[str, np.dtype]
    read: Callable[[str], np.ndarray]
    tokenizer: Tokenizer | None


def verify(left: str, right: str, with_logits: bool = True) -> None:
    """Prints how the models in two folders compare; raises ValueError, with what differs, unless they are the same.

    Tensors are the same if they are equal after rounding to the coarser of the two dtypes. Logits are compared if
    transformers is installed and one folder is in Hugging Face's form. If that succeeds and the other is a workdir at
    step 0, the log-probabilities by transformers are written there, for runs that start from it.
    """
    sides = open_side(left), open_side(right)
    differences = [*compare_configs(*sides), *compare_tensors(*sides)]
    print(f"config and tensors: {'; '.join(differences) or 'the same'}")
    if with_logits and _can_compare_logits(sides):
        ours, theirs = sides if not sides[1].is_workdir else sides[::-1]
        logits, reference = compare_logits(ours, theirs)
        print(f"logits: {logits}")
        if not logits.is_same:
            differences.append(f"the logits differ ({logits})")
        elif not differences and ours.is_workdir and conversion.open_workdir(ours.folder)[3] == 0:
            reference_loss.write(conversion.split_step(ours.folder)[0], reference)
    if differences:
        raise ValueError(f"{left} and {right} are not the same model: {'; '.join(differences)}")


def open_side(folder: str) -> Side:
    """The model in `folder`; raises ValueError if it holds none."""
    if conversion.is_workdir(folder):
        workdir, config, checkpoints, step = conversion.open_workdir(folder)
        conversion_table.check_params(checkpoints, step, config)
        dtypes = {path: np.dtype(leaf.dtype) for path, leaf in checkpoints.stored_params(step).items()}
        vocabulary = conversion.load_tokenizer(workdir / "tokenizer", config)
        return Side(
            folder, True, config.to_dict(), dtypes, lambda path: checkpoints.read_params(step, [path])[path], vocabulary
        )
    config, reader = conversion.open_hf(folder)
    sizes = conversion_table.sizes_of(config)
    tensors = {path: (name, tensor) for path, name, tensor in conversion_table.tensors_of(config)}
    dtypes = {path: reader.numpy_dtype(name) for path, (name, _) in tensors.items()}

    def read(path: str) -> np.ndarray:
        name, tensor = tensors[path]
        return tensor.to_ours(reader.read(name), sizes)

    return Side(folder, False, config.to_dict(), dtypes, read, conversion.load_tokenizer(folder, config))


def compare_configs(left: Side, right: Side) -> Iterator[str]:
    """What differs between configs and tokenizers, a phrase each."""
    for key in sorted(left.config.keys() - set(FREE_KEYS)):
        if left.config[key] != right.config[key]:
            yield f"{key} is {left.config[key]} and {right.config[key]}"
    fingerprints = [side.tokenizer.fingerprint[:12] for side in (left, right) if side.tokenizer]
    if len(set(fingerprints)) > 1:
        yield f"the tokenizers are {' and '.join(fingerprints)}"


def compare_tensors(left: Side, right: Side) -> Iterator[str]:
    """What differs between tensors, a phrase each."""
    for path in sorted(left.dtypes.keys() ^ right.dtypes.keys()):
        yield f"only {(left if path in left.dtypes else right).folder} has {path}"
    different, common = [], [path for path in left.dtypes if path in right.dtypes]
    for number, path in enumerate(common, 1):
        if number % 50 == 0:
            logging.info("%d of %d tensors compared", number, len(common))
        arrays = left.read(path), right.read(path)
        if arrays[0].shape != arrays[1].shape:
            yield f"{path} has the shapes {arrays[0].shape} and {arrays[1].shape}"
        elif not _are_equal(*arrays, coarser(left.dtypes[path], right.dtypes[path])):
            different.append(path)
    if different:
        yield f"{len(different)} of {len(common)} tensors differ, among them {', '.join(different[:4])}"


def coarser(left: np.dtype, right: np.dtype) -> np.dtype:
    """The one of two dtypes with fewer bits of precision.

    >>> str(coarser(np.dtype("float32"), jnp.dtype("bfloat16")))
    'bfloat16'
    """
    return max(left, right, key=lambda dtype: float(jnp.finfo(dtype).eps))


def compare_logits(ours: Side, theirs: Side) -> tuple[Logits, reference_loss.Reference]:
    """(how the logits compare, theirs as log-probabilities): `theirs` is a Hugging Face folder, for transformers.

    Our parameters are rounded first to the dtypes of theirs where those are coarser, so that a difference is not of the
    rounding.
    """

    def read(path: str) -> np.ndarray:
        return ours.read(path).astype(coarser(ours.dtypes[path], theirs.dtypes.get(path, ours.dtypes[path])))

    return logit_comparison.compare(ours.config, read, ours.tokenizer or theirs.tokenizer, theirs.folder)


def _are_equal(left: np.ndarray, right: np.ndarray, dtype: np.dtype) -> bool:
    """Whether two arrays are equal, bit for bit, after rounding; a block at a time."""
    rows = max(1, EQUAL_BYTES * len(left) // left.nbytes)
    for start in range(0, len(left), rows):
        parts = [np.ascontiguousarray(x[start : start + rows]).astype(dtype, copy=False) for x in (left, right)]
        if parts[0].tobytes() != parts[1].tobytes():
            return False
    return True


def _can_compare_logits(sides: tuple[Side, Side]) -> bool:
    if all(side.is_workdir for side in sides):
        return False
    if sides[0].dtypes.keys() - sides[1].dtypes.keys() - {"head"}:
        return False
    try:
        command_line.require_extra("test", "torch", "transformers")
    except ValueError as error:
        logging.warning("logits are not compared: %s", error)
        return False
    return True
