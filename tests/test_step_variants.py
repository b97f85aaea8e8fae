"""One step of every variant, its loss and its gradients, against the plain model in float32 on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import plain_llama
import pytest

from emma_jax import model, sharding
from emma_jax.program import build

VARIANTS = {
    "plain": {},
    "remat full": {"model.remat": "full"},
    "remat attention": {"model.remat": "attention"},
    "remat qkv": {"model.remat": "qkv"},
    "remat minimal": {"model.remat": "minimal"},
    "microbatches": {"train.microbatches": 4},
    "one chunk": {"loss.vocab_chunks": 1},
    "chunks with padding": {"loss.vocab_chunks": 7, "sharding.tensor": 2},
    "z-loss": {"loss.z_loss": 0.1},
    "tied": {"model.tie_embeddings": True},
    "fsdp": {"sharding.fsdp": 8},
    "fsdp, tensor, remat, microbatches, z-loss": {
        "sharding.fsdp": 4, "sharding.tensor": 2, "model.remat": "minimal", "train.microbatches": 2, "loss.z_loss": 0.1,
    },
    "data, fsdp, tensor, tied": {
        "sharding.data": 2, "sharding.fsdp": 2, "sharding.tensor": 2, "model.tie_embeddings": True,
    },
    "document": {"model.attention": "document", "model.remat": "attention", "sharding.fsdp": 2, "sharding.tensor": 2},
    "splash": {"model.attention": "splash", "model.remat": "full", "sharding.fsdp": 2, "sharding.tensor": 2},
}  # fmt: skip


def configure(config, name):
    """The tiny configuration as the variant has it, and its section of sizes: rows and heads that kernels can take."""
    variant = VARIANTS[name]
    config.model.update(rope_scaling_factor=1.0)
    config.loss.vocab_chunks, config.sharding.fsdp, config.optimizer.clip_norm = 4, 1, 1e9
    if "model.attention" in variant:
        config.model.update(num_layers=1, head_dim=128)
        config.pack.row_length, config.input_pipeline.batch_rows = 256, 2
    for key, value in variant.items():
        section, field = key.split(".")
        config[section][field] = value
    return config


@pytest.fixture(scope="module")
def expected():
    """A function of a configuration and a batch: loss and gradients of the plain model, computed once for like ones."""
    known = {}

    def compute(config, batch):
        key = (config.model.head_dim, config.model.tie_embeddings, config.loss.z_loss)
        if key not in known:

            @functools.partial(jax.value_and_grad, has_aux=True)
            def objective(params):
                loss = plain_llama.mean_loss(config.model, params, batch)
                return loss + config.loss.z_loss * plain_llama.mean_squared_log_sum(config.model, params, batch), loss

            params = jax.jit(lambda key: model.initialize(config.model, key))(jax.random.key(0))
            (_, loss), gradients = jax.jit(objective)(params)
            known[key] = loss, gradients
        return known[key]

    return compute


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_gradients_equal_the_plain_model(tiny_config, random_batch, expected, name):
    config, batch = configure(tiny_config, name), random_batch()
    loss, reference_gradients = expected(config, batch)
    sizes = config.sharding
    devices = jax.devices()[: sizes.data * sizes.fsdp * sizes.tensor]
    program = build(config, sharding.make_mesh(sizes, devices))
    state, metrics = program.step(program.init(jax.random.key(0)), batch)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=2e-6)
    # After one step the first moment is the gradient, but for a factor.
    gradients = jax.tree.map(lambda moment: moment / (1 - config.optimizer.b1), state.optimizer[1][0].mu)
    for (path, found), reference in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(reference_gradients), strict=True
    ):
        atol = 2e-5 * float(jnp.abs(reference).max())
        np.testing.assert_allclose(found, reference, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))
