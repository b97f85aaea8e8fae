"""Llama between Hugging Face folders and our workdirs: one table of tensors, read in both directions.

`conversion_config` maps the configs and `safetensors_folder` owns the files; the checkpoint format is `checkpoint`'s.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from emma_jax import checkpoint, conversion_config, model, program, safetensors_folder, tokenizer
from emma_jax.checkpoint import Checkpoints, Metadata
from emma_jax.tokenizer import Tokenizer


class Tensor(NamedTuple):
    """A tensor in both forms: dims are letters of the legend in `model`, and a word of several is their product."""

    path: str
    name: str
    theirs: str
    ours: str

    def to_ours(self, array: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
        """A view of their `array` in our form.

        >>> output = Tensor("output", "o_proj.weight", "D HC", "HCD")
        >>> output.to_ours(np.arange(6).reshape(1, 6), {"D": 1, "H": 2, "C": 3}).tolist()
        [[[0], [1], [2]], [[3], [4], [5]]]
        """
        dims = self.theirs.replace(" ", "")
        return array.reshape([sizes[dim] for dim in dims]).transpose([dims.index(dim) for dim in self.ours])

    def to_theirs(self, array: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
        """Our `array` in their form: the inverse of `to_ours`.

        >>> output = Tensor("output", "o_proj.weight", "D HC", "HCD")
        >>> output.to_theirs(np.arange(6).reshape(2, 3, 1), {"D": 1, "H": 2, "C": 3}).tolist()
        [[0, 1, 2, 3, 4, 5]]
        """
        dims = self.theirs.replace(" ", "")
        return array.transpose([self.ours.index(dim) for dim in dims]).reshape(self.their_shape(sizes))

    def their_shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """The shape in their form."""
        return tuple(math.prod(sizes[dim] for dim in word) for word in self.theirs.split())


# Both rotate channel c with c + C / 2, so that queries and keys need no permutation.
TABLE = (
    Tensor("embedding", "model.embed_tokens.weight", "V D", "VD"),
    Tensor("layers/attention_norm", "model.layers.{}.input_layernorm.weight", "D", "D"),
    Tensor("layers/attention/query", "model.layers.{}.self_attn.q_proj.weight", "HC D", "DHC"),
    Tensor("layers/attention/key", "model.layers.{}.self_attn.k_proj.weight", "KC D", "DKC"),
    Tensor("layers/attention/value", "model.layers.{}.self_attn.v_proj.weight", "KC D", "DKC"),
    Tensor("layers/attention/output", "model.layers.{}.self_attn.o_proj.weight", "D HC", "HCD"),
    Tensor("layers/mlp_norm", "model.layers.{}.post_attention_layernorm.weight", "D", "D"),
    Tensor("layers/mlp/gate", "model.layers.{}.mlp.gate_proj.weight", "F D", "DF"),
    Tensor("layers/mlp/up", "model.layers.{}.mlp.up_proj.weight", "F D", "DF"),
    Tensor("layers/mlp/down", "model.layers.{}.mlp.down_proj.weight", "D F", "FD"),
    Tensor("final_norm", "model.norm.weight", "D", "D"),
    Tensor("head", "lm_head.weight", "V D", "DV"),
)
HEAD = TABLE[-1]
IGNORED_SUFFIX = ".rotary_emb.inv_freq"  # old folders store what follows from the config
READABLE_DTYPES = ("F32", "BF16", "F16")


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model ready to score or generate: config.model, its parameters on a mesh, its tokenizer or None, its name."""

    config: ConfigDict
    params: model.Params
    tokenizer: Tokenizer | None
    name: str


def load_model(folder: str, mesh: Mesh) -> LoadedModel:
    """The model in `folder` on `mesh`: a workdir (its newest step, or FOLDER@STEP) or a Hugging Face folder.

    Raises ValueError if it is neither, or holds no complete model.
    """
    workdir, step = split_step(folder)
    name = os.path.basename(os.path.abspath(folder))
    if (epath.Path(workdir) / "checkpoints").exists():
        config, checkpoints, step = _open_workdir(workdir, step)
        params = checkpoints.restore_params(step, program.abstract_params(config, mesh))
        return LoadedModel(config, params, _load_tokenizer(epath.Path(workdir) / "tokenizer", config), name)
    if not (pathlib.Path(folder) / "config.json").exists():
        raise ValueError(f"{folder} holds no model: neither a folder 'checkpoints' nor a file config.json")
    config, reader = _open_hf(folder)
    params = read_params(reader, config, program.abstract_params(config, mesh))
    return LoadedModel(config, params, _load_tokenizer(folder, config), name)


def import_hf(source: str, workdir: str, mesh: Mesh) -> None:
    """Writes the Hugging Face folder `source` as step 0 of the new `workdir`, tokenizer included.

    Everything is checked before anything is written. Raises ValueError for a model that ours is not, a missing,
    damaged or misshapen tensor, and a workdir that holds a checkpoint.
    """
    config, reader = _open_hf(source)
    vocabulary = _load_tokenizer(source, config)
    if (epath.Path(workdir) / "checkpoints").exists() and Checkpoints(workdir).latest_step() is not None:
        raise ValueError(f"{workdir} holds checkpoints already; name a new workdir")
    logging.info("importing %d tensors of %s", len(reader.names), source)
    params = read_params(reader, config, program.abstract_params(config, mesh))
    if vocabulary is not None:
        tokenizer.copy_files(source, epath.Path(workdir) / "tokenizer")
    checkpoints = Checkpoints(workdir, ConfigDict(dict(save_every_steps=1, keep=1)))
    fingerprint = vocabulary.fingerprint if vocabulary else ""
    checkpoints.save(0, params, None, Metadata({"model": config.to_dict()}, tokenizer=fingerprint))
    checkpoints.close()
    logging.info("%s is step 0 of %s", source, workdir)


def export_hf(source: str, target: str, dtype: str, mesh: Mesh) -> None:
    """Writes the workdir `source` (its newest step, or WORKDIR@STEP) as the new Hugging Face folder `target`.

    Weights are rounded to `dtype`, "float32" or "bfloat16". The folder appears when it is complete. Raises ValueError
    if `target` is not empty or `source` holds no such checkpoint.
    """
    if dtype not in conversion_config.DTYPES:
        raise ValueError(f"--dtype is {dtype!r}; expected one of {', '.join(conversion_config.DTYPES)}")
    safetensors_folder.check_new(target)
    workdir, step = split_step(source)
    config, checkpoints, step = _open_workdir(workdir, step)
    vocabulary = _load_tokenizer(epath.Path(workdir) / "tokenizer", config)
    logging.info("exporting step %d of %s as %s", step, workdir, dtype)
    params = checkpoints.restore_params(step, program.abstract_params(config, mesh))
    ids = {
        f"{name}_token_id": getattr(vocabulary, f"{name}_id") if vocabulary else None for name in ("bos", "eos", "pad")
    }
    with safetensors_folder.new_folder(target) as folder:
        write_params(folder, params, config, dtype)
        if vocabulary is not None:
            tokenizer.copy_files(epath.Path(workdir) / "tokenizer", folder)
        safetensors_folder.write_json(folder / "config.json", conversion_config.from_model(config, dtype, ids))
        safetensors_folder.write_json(folder / "generation_config.json", conversion_config.generation_config(ids))
    logging.info("%s is complete", target)


def read_params(reader: safetensors_folder.Reader, config, abstract: model.Params) -> model.Params:
    """The tensors of `reader` as parameters laid out as `abstract` says, in its dtype; one tensor is read at a time."""
    sizes = _sizes(config)
    tensors = {path: (tensor, name) for path, name, tensor, _ in tensors_of(config)}

    def place(path, leaf):
        tensor, name = tensors["/".join(key.key for key in path)]
        array = tensor.to_ours(reader.read(name), sizes)
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: array[index].astype(leaf.dtype))

    return checkpoint.stack(jax.tree_util.tree_map_with_path(place, checkpoint.unstack_abstract(abstract)), abstract)


def write_params(folder, params: model.Params, config, dtype: str) -> None:
    """Writes `params` as safetensors of `dtype` into the existing `folder`; one file's tensors are on the host."""
    sizes = _sizes(config)
    tensors = {name: (tensor, layer) for _, name, tensor, layer in tensors_of(config)}

    def read(name):
        tensor, layer = tensors[name]
        leaf = params
        for key in tensor.path.split("/"):
            leaf = leaf[key]
        return tensor.to_theirs(np.asarray(leaf if layer is None else _layer(leaf, layer)), sizes)

    shapes = {name: tensor.their_shape(sizes) for name, (tensor, _) in tensors.items()}
    safetensors_folder.write(folder, shapes, jax.numpy.dtype(dtype), read)


def tensors_of(config) -> Iterator[tuple[str, str, Tensor, int | None]]:
    """(path in unstacked parameters, name in safetensors, entry of the table, layer or None), layer by layer."""
    per_layer = [tensor for tensor in TABLE if "{}" in tensor.name]
    before, after = TABLE[: TABLE.index(per_layer[0])], TABLE[TABLE.index(per_layer[-1]) + 1 :]
    yield from ((tensor.path, tensor.name, tensor, None) for tensor in before)
    for layer in range(config.num_layers):
        yield from ((f"{tensor.path}/{layer}", tensor.name.format(layer), tensor, layer) for tensor in per_layer)
    yield from (
        (tensor.path, tensor.name, tensor, None) for tensor in after if not (tensor is HEAD and config.tie_embeddings)
    )


def split_step(source: str) -> tuple[str, int | None]:
    """(workdir, step) of WORKDIR or WORKDIR@STEP.

    >>> split_step("runs/bilingual@12000"), split_step("runs/a@b")
    (('runs/bilingual', 12000), ('runs/a@b', None))
    """
    workdir, _, step = source.rpartition("@")
    return (workdir, int(step)) if workdir and step.isdecimal() else (source, None)


def check_tensors(reader: safetensors_folder.Reader, config) -> None:
    """Raises ValueError, naming the tensor, unless `reader` holds just the tensors of `config` in their shapes."""
    sizes = _sizes(config)
    expected = {name: tensor.their_shape(sizes) for _, name, tensor, _ in tensors_of(config)}
    for name, shape in expected.items():
        if name not in reader.names:
            raise ValueError(f"{reader.folder} lacks the tensor {name}")
        if reader.shape(name) != shape:
            raise ValueError(f"{reader.folder}: {name} has shape {reader.shape(name)}, by config.json it is {shape}")
        if reader.dtype(name) not in READABLE_DTYPES:
            raise ValueError(
                f"{reader.folder}: {name} is stored as {reader.dtype(name)}; readable are {', '.join(READABLE_DTYPES)}"
            )
    for name in reader.names:
        if name == HEAD.name and config.tie_embeddings:
            if not np.array_equal(reader.read(name), reader.read(TABLE[0].name)):
                raise ValueError(f"{reader.folder}: {name} is not the embedding, but tie_word_embeddings is true")
        elif name not in expected and not name.endswith(IGNORED_SUFFIX):
            raise ValueError(f"{reader.folder}: {name} is no tensor of the Llama that config.json describes")


def _open_hf(folder: str) -> tuple[ConfigDict, safetensors_folder.Reader]:
    config = ConfigDict(conversion_config.to_model(safetensors_folder.read_json(pathlib.Path(folder) / "config.json")))
    reader = safetensors_folder.Reader(folder)
    check_tensors(reader, config)
    return config, reader


def _open_workdir(workdir: str, step: int | None) -> tuple[ConfigDict, Checkpoints, int]:
    checkpoints = Checkpoints(workdir)
    latest = checkpoints.latest_step()
    if latest is None:
        raise ValueError(f"{workdir} holds no complete checkpoint")
    if step is None:
        step = latest
    elif not (checkpoints.folder / str(step)).exists():
        raise ValueError(f"{workdir} has no checkpoint of step {step}; its newest is {latest}")
    metadata = checkpoints.metadata(step)
    folder = epath.Path(workdir) / "tokenizer"
    if (
        metadata.tokenizer
        and any(folder.glob("tokenizer.*"))
        and tokenizer.load(folder).fingerprint != metadata.tokenizer
    ):
        raise ValueError(f"{folder} is not the tokenizer that step {step} was trained with; put that one back")
    return ConfigDict(metadata.config["model"]), checkpoints, step


def _load_tokenizer(folder, config) -> Tokenizer | None:
    if not any((epath.Path(folder) / name).exists() for name in (tokenizer.MODEL_FILE, tokenizer.JSON_FILE)):
        logging.warning("%s holds no tokenizer: the model goes on without one", folder)
        return None
    vocabulary = tokenizer.load(folder)
    if vocabulary.vocab_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer in {folder} has {vocabulary.vocab_size} ids, the model {config.vocab_size}: "
            "it is the tokenizer of another model"
        )
    return vocabulary


def _sizes(config) -> dict[str, int]:
    return {
        "V": config.vocab_size,
        "D": config.model_dim,
        "F": config.mlp_dim,
        "H": config.num_heads,
        "K": config.num_kv_heads,
        "C": config.head_dim,
    }


@jax.jit
def _layer(stacked, layer):
    return stacked[layer]
