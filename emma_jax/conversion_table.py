"""The tensors of a Llama in Hugging Face's form and in ours: one table, read in both directions.

Dims are letters of the legend in `model`, and a word of several is their product. It owns no files and no configs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Sizes = Mapping[str, int]  # letter -> size of that dim


class Tensor(NamedTuple):
    """A tensor in both forms: `path` and `ours` in unstacked parameters, `name` and `theirs` in safetensors."""

    path: str
    name: str
    theirs: str
    ours: str

    def to_ours(self, array: np.ndarray, sizes: Sizes) -> np.ndarray:
        """A view of their `array` in our form; of a part of it, if `sizes` are those of the part.

        >>> output = Tensor("output", "o_proj.weight", "D HC", "HCD")
        >>> output.to_ours(np.arange(6).reshape(1, 6), {"D": 1, "H": 2, "C": 3}).tolist()
        [[[0], [1], [2]], [[3], [4], [5]]]
        """
        dims = self.theirs.replace(" ", "")
        return array.reshape([sizes[dim] for dim in dims]).transpose([dims.index(dim) for dim in self.ours])

    def to_theirs(self, array: np.ndarray, sizes: Sizes) -> np.ndarray:
        """Our `array` in their dims, before those of a word are joined: a view, the inverse of `to_ours`.

        >>> output = Tensor("output", "o_proj.weight", "D HC", "HCD")
        >>> output.to_theirs(np.arange(6).reshape(2, 3, 1), {"D": 1, "H": 2, "C": 3}).tolist()
        [[[0, 1, 2], [3, 4, 5]]]
        """
        return array.transpose([self.ours.index(dim) for dim in self.theirs.replace(" ", "")])

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape in our form."""
        return tuple(sizes[dim] for dim in self.ours)

    def their_shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape in their form."""
        return tuple(math.prod(sizes[dim] for dim in word) for word in self.theirs.split())


# In the order of a state dict, so that shards are cut where Hugging Face cuts them. Both forms rotate channel c with
# c + C / 2, so that queries and keys need no permutation.
TABLE = (
    Tensor("embedding", "model.embed_tokens.weight", "V D", "VD"),
    Tensor("layers/attention/query", "model.layers.{}.self_attn.q_proj.weight", "HC D", "DHC"),
    Tensor("layers/attention/key", "model.layers.{}.self_attn.k_proj.weight", "KC D", "DKC"),
    Tensor("layers/attention/value", "model.layers.{}.self_attn.v_proj.weight", "KC D", "DKC"),
    Tensor("layers/attention/output", "model.layers.{}.self_attn.o_proj.weight", "D HC", "HCD"),
    Tensor("layers/mlp/gate", "model.layers.{}.mlp.gate_proj.weight", "F D", "DF"),
    Tensor("layers/mlp/up", "model.layers.{}.mlp.up_proj.weight", "F D", "DF"),
    Tensor("layers/mlp/down", "model.layers.{}.mlp.down_proj.weight", "D F", "FD"),
    Tensor("layers/attention_norm", "model.layers.{}.input_layernorm.weight", "D", "D"),
    Tensor("layers/mlp_norm", "model.layers.{}.post_attention_layernorm.weight", "D", "D"),
    Tensor("final_norm", "model.norm.weight", "D", "D"),
    Tensor("head", "lm_head.weight", "V D", "DV"),
)
EMBEDDING, HEAD = TABLE[0], TABLE[-1]
IGNORED_SUFFIX = ".rotary_emb.inv_freq"  # old folders store what follows from the config
READABLE_DTYPES = ("F32", "BF16", "F16")


def tensors_of(config) -> Iterator[tuple[str, str, Tensor]]:
    """(path in unstacked parameters, name in safetensors, entry of the table) of a model, in the order of a state dict.

    `config` is config.model.
    """
    per_layer = [tensor for tensor in TABLE if "{}" in tensor.name]
    before, after = TABLE[: TABLE.index(per_layer[0])], TABLE[TABLE.index(per_layer[-1]) + 1 :]
    yield from ((tensor.path, tensor.name, tensor) for tensor in before)
    for layer in range(config.num_layers):
        yield from ((f"{tensor.path}/{layer}", tensor.name.format(layer), tensor) for tensor in per_layer)
    yield from (
        (tensor.path, tensor.name, tensor) for tensor in after if not (tensor is HEAD and config.tie_embeddings)
    )


def sizes_of(config) -> dict[str, int]:
    """The size of each dim of the model that `config`, config.model, describes."""
    return {
        "V": config.vocab_size,
        "D": config.model_dim,
        "F": config.mlp_dim,
        "H": config.num_heads,
        "K": config.num_kv_heads,
        "C": config.head_dim,
    }


def num_bytes(config, dtype: np.dtype) -> int:
    """Bytes of all tensors of a model in `dtype`."""
    sizes = sizes_of(config)
    return dtype.itemsize * sum(math.prod(tensor.shape(sizes)) for _, _, tensor in tensors_of(config))


def check_tensors(reader, config) -> None:
    """Raises ValueError, naming the tensor, unless `reader` holds just the tensors of `config` in their shapes.

    `reader` is a `safetensors_folder.Reader`. The one exception is a stored head of a model that is tied: it must be
    the embedding.
    """
    sizes = sizes_of(config)
    expected = {name: tensor.their_shape(sizes) for _, name, tensor in tensors_of(config)}
    names = set(reader.names)
    for name, shape in expected.items():
        if name not in names:
            raise ValueError(f"{reader.folder} lacks the tensor {name}")
        if reader.shape(name) != shape:
            raise ValueError(f"{reader.folder}: {name} has shape {reader.shape(name)}, by config.json it is {shape}")
        if reader.dtype(name) not in READABLE_DTYPES:
            raise ValueError(
                f"{reader.folder}: {name} is stored as {reader.dtype(name)}; readable are {', '.join(READABLE_DTYPES)}"
            )
    for name in reader.names:
        if name == HEAD.name and config.tie_embeddings:
            if not np.array_equal(reader.read(name), reader.read(EMBEDDING.name)):
                raise ValueError(f"{reader.folder}: {name} is not the embedding, but tie_word_embeddings is true")
        elif name not in expected and not name.endswith(IGNORED_SUFFIX):
            raise ValueError(f"{reader.folder}: {name} is no tensor of the Llama that config.json describes")


def check_params(checkpoints, step: int, config) -> None:
    """Raises ValueError, naming the array, unless the checkpoint of `step` holds just the parameters of `config`.

    `checkpoints` is a `checkpoint.Checkpoints`.
    """
    sizes = sizes_of(config)
    expected = {path: tensor.shape(sizes) for path, _, tensor in tensors_of(config)}
    stored = {path: leaf.shape for path, leaf in checkpoints.stored_params(step).items()}
    for path in sorted(expected.keys() | stored.keys()):
        if expected.get(path) != stored.get(path):
            there, wanted = (shapes.get(path, "absent") for shapes in (stored, expected))
            raise ValueError(f"{checkpoints.folder}/{step}: {path} is {there}, by its config it is {wanted}")


def row_sharding(tensor: Tensor, sizes: Sizes, devices: Sequence[jax.Device]) -> NamedSharding:
    """Our form of a tensor over `devices` so that each holds whole rows of their form, and as few as it can be.

    A device's part is then one run of bytes in the file. What the dims of a row do not divide over is replicated.
    """
    word, left, parts = tensor.theirs.split()[0], len(devices), {}
    for dim in word:
        parts[dim] = math.gcd(sizes[dim], left)
        left //= parts[dim]
        if parts[dim] < sizes[dim]:
            break  # a part that splits a dim holds all of those behind it
    # Not jax.make_mesh: it wants axes that fit a pod's wires, but nothing is sent here.
    grid = np.array(devices, object).reshape(*parts.values(), left)
    mesh = Mesh(grid, (*parts, "replica"), axis_types=(AxisType.Auto,) * grid.ndim)
    return NamedSharding(mesh, PartitionSpec(*(dim if dim in parts else None for dim in tensor.ours)))


def rows_of(tensor: Tensor, sizes: Sizes, index: tuple[slice, ...]) -> slice:
    """The rows of their form that hold the part `index` of ours, where `row_sharding` has cut it.

    >>> query = Tensor("query", "q_proj.weight", "HC D", "DHC")
    >>> rows_of(query, {"D": 5, "H": 4, "C": 8}, (slice(None), slice(2, 4), slice(None)))
    slice(16, 32, None)
    """
    start, length = 0, 1
    for dim in tensor.theirs.split()[0]:
        first, last, _ = index[tensor.ours.index(dim)].indices(sizes[dim])
        start, length = start * sizes[dim] + first, (length - 1) * sizes[dim] + last - first
    return slice(start, start + length)
