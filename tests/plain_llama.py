"""Llama 3 as plainly as it can be written, float32, on one device: what every variant of the step is compared with."""

import jax
import jax.numpy as jnp
import numpy as np


def mean_loss(config, params, batch):
    """Mean -log p(target) over all tokens that are not padding, from all logits at once."""
    logits = logits_of(config, params, batch)
    logs = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], axis=-1)[..., 0]
    is_token = batch["segments"] > 0
    return -jnp.sum(jnp.where(is_token, logs, 0)) / jnp.sum(is_token)


def mean_squared_log_sum(config, params, batch):
    """What the z-loss is a multiple of: the mean of log(Z)^2."""
    log_sums = jax.nn.logsumexp(logits_of(config, params, batch), axis=-1)
    is_token = batch["segments"] > 0
    return jnp.sum(jnp.where(is_token, log_sums**2, 0)) / jnp.sum(is_token)


def logits_of(config, params, batch):
    """Logits of each row alone, layer by layer, head by head."""
    return jax.vmap(lambda *row: _row(config, params, *row))(batch["tokens"], batch["positions"], batch["segments"])


def _row(config, params, tokens, positions, segments):
    x = params["embedding"][tokens]
    at = np.arange(len(tokens))
    sees = (at[:, None] >= at) & (segments[:, None] == segments)
    frequencies = 1 / config.rope_theta ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    assert config.rope_scaling_factor == 1
    for number in range(config.num_layers):
        layer = jax.tree.map(lambda leaf, number=number: leaf[number], params["layers"])
        weights, normed = layer["attention"], _norm(config, x, layer["attention_norm"])
        heads = []
        for head in range(config.num_heads):
            group = head // (config.num_heads // config.num_kv_heads)
            query = _turn(normed @ weights["query"][:, head], positions, frequencies)
            key = _turn(normed @ weights["key"][:, group], positions, frequencies)
            scores = jnp.where(sees, query @ key.T / np.sqrt(config.head_dim), -jnp.inf)
            heads.append(jax.nn.softmax(scores) @ (normed @ weights["value"][:, group]) @ weights["output"][head])
        x = x + sum(heads)
        normed, mlp = _norm(config, x, layer["mlp_norm"]), layer["mlp"]
        x = x + (jax.nn.silu(normed @ mlp["gate"]) * (normed @ mlp["up"])) @ mlp["down"]
    head = params["embedding"].T if config.tie_embeddings else params["head"]
    return _norm(config, x, params["final_norm"]) @ head


def _norm(config, x, scale):
    return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + config.norm_epsilon) * scale


def _turn(x, positions, frequencies):
    pairs = jax.lax.complex(*jnp.split(x, 2, axis=-1)) * jnp.exp(1j * positions[:, None] * frequencies)
    return jnp.concatenate([pairs.real, pairs.imag], axis=-1)
