"""Random models in which no two tensors could be mistaken for each other, and their workdirs, for tests."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import synthetic
from flax import nnx
from ml_collections import FrozenConfigDict

from configs import base
from emma_jax import model, program, sharding
from emma_jax.checkpoint import Checkpoints, Metadata

needs_torch = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="torch is a test's requirement on Python 3.11 only"
)


def model_config(**changes):
    """A tiny model whose logits have a standard deviation above 1, with grouped heads of a dim of their own."""
    config = base.get_config().model
    config.update(
        vocab_size=320, num_layers=3, model_dim=64, num_heads=8, num_kv_heads=2, head_dim=16, mlp_dim=160,
        rope_original_length=256, max_length=4096, initializer_range=0.15, compute_dtype="float32", remat="none",
    )  # fmt: skip
    config.update(changes)
    return config


def mesh(devices: int = 1, **axes):
    """A mesh of some of the virtual devices, all on the axis fsdp unless `axes` say otherwise."""
    return sharding.make_mesh({**dict(data=1, fsdp=-1, tensor=1), **axes}, jax.devices()[:devices])


def parameters(config, seed: int = 0):
    """Random parameters, the norms' scales too: at their initial 1 a swap of two of them would not show."""
    rng = np.random.default_rng(seed)
    _, shapes, _ = model.abstract(config)

    def draw(path, leaf):
        is_norm = path[-1].key.endswith("norm")
        values = rng.uniform(0.5, 1.5, leaf.shape) if is_norm else rng.normal(0, config.initializer_range, leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def place(params, config, mesh):
    """`params` on `mesh`."""
    return jax.tree.map(lambda x, leaf: jax.device_put(x, leaf.sharding), params, program.abstract_params(config, mesh))


def logits(config, params, tokens, positions=None, segments=None):
    """float32 logits_BLV of whole rows; without segments a row is one document."""
    tokens = np.asarray(tokens, np.int32)
    positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape) if positions is None else positions
    segments = np.ones_like(tokens) if segments is None else segments
    return np.asarray(_logits(FrozenConfigDict(config), params, tokens, positions, segments))


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, params, tokens, positions, segments):
    llama = nnx.merge(model.abstract(config)[0], params)
    return llama.logits(llama(tokens, positions, segments)[0])


def write_workdir(folder, config, params, step: int = 5, tokenizer: bool = True) -> None:
    """A workdir of one checkpoint without optimizer, with the tokenizer of `synthetic`."""
    fingerprint = synthetic.write_tokenizer(folder / "tokenizer") if tokenizer else ""
    checkpoints = Checkpoints(folder, base.get_config().checkpoint)
    checkpoints.save(step, params, None, Metadata({"model": config.to_dict()}, tokenizer=fingerprint))
    checkpoints.close()
