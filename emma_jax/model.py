"""The Llama 3 decoder in Flax NNX: embedding, stacked layers, final norm, head. It owns shapes and arithmetic.

It does not know meshes (dims carry logical names, see `sharding`), losses, or where parameters are stored.

Shape suffixes, here and everywhere: B batch, L query length, S key length, D model, N layers, H heads, K key/value
heads, G = H / K, C head channels, F feed-forward, V vocabulary.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from emma_jax.attention import (
    branch_mask,
    cached_attention,
    document_starts,
    recent_mask,
    rope_turns,
    rotate,
    self_attention,
)
from emma_jax.sharding import constrain

HIDDEN_AXES = ("batch", "length", "activation")
# What the backward pass finds saved of each layer, besides its input; the rest it computes again.
REMAT_SAVES = {
    "full": (),
    "attention": ("attention",),
    "qkv": ("query", "key", "value", "attention"),
    "minimal": ("query", "key", "value", "attention", "attention_residual", "gate", "up"),
    "none": None,  # everything is saved
}

Params = dict[str, "jax.Array | Params"]


def _param(rngs: nnx.Rngs, config, shape: tuple[int, ...], logical: tuple[str, ...], scale: float = 1.0) -> nnx.Param:
    deviation = config.initializer_range * scale
    return nnx.Param(deviation * jax.random.normal(rngs.params(), shape, jnp.float32), logical=logical)


def _norm_scale(dim: int) -> nnx.Param:
    return nnx.Param(jnp.ones(dim, jnp.float32), logical=("norm",))


def rms_norm(x_BLD: jax.Array, scale_D: jax.Array, epsilon: float) -> jax.Array:
    """x / sqrt(mean(x^2) + epsilon) * scale, computed in float32 (Zhang and Sennrich 2019)."""
    x32_BLD = x_BLD.astype(jnp.float32)
    x32_BLD *= jax.lax.rsqrt(jnp.mean(x32_BLD**2, axis=-1, keepdims=True) + epsilon)
    return x32_BLD.astype(x_BLD.dtype) * scale_D.astype(x_BLD.dtype)


def rope_frequencies(config) -> np.ndarray:
    """Radians per position of the C / 2 rotated pairs, float32, with Llama 3.1's scaling if its factor is not 1.

    Wavelengths above original_length / low_frequency_factor are stretched by the factor, those below
    original_length / high_frequency_factor are kept, and those between are interpolated (Llama 3.1 reference code).
    """
    # Each step rounds as in PyTorch, where Llama's weights were trained with these frequencies and transformers uses
    # them: at position 2,048 the last bit of a frequency near 1 turns a pair by 1e-4 radians.
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = 1 / (np.float64(config.rope_theta) ** exponents).astype(np.float32)
    if config.rope_scaling_factor == 1.0:
        return frequencies
    low, high = config.rope_low_frequency_factor, config.rope_high_frequency_factor
    wavelengths = (1 / frequencies) * np.float32(2 * math.pi)
    turns = (1 / wavelengths) * np.float32(config.rope_original_length)
    kept = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)
    return (1 - kept) * frequencies / np.float32(config.rope_scaling_factor) + kept * frequencies


class Attention(nnx.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, config, rngs: nnx.Rngs):
        D, H, K, C = config.model_dim, config.num_heads, config.num_kv_heads, config.head_dim
        residual_scale = (2 * config.num_layers) ** -0.5
        self.query = _param(rngs, config, (D, H, C), ("embed", "heads", "head_dim"))
        self.key = _param(rngs, config, (D, K, C), ("embed", "kv_heads", "head_dim"))
        self.value = _param(rngs, config, (D, K, C), ("embed", "kv_heads", "head_dim"))
        self.output = _param(rngs, config, (H, C, D), ("heads", "head_dim", "embed"), residual_scale)
        self.implementation = config.attention

    def __call__(self, x_BLD, turns, starts_BL, mask_BLS, cache):
        dtype = x_BLD.dtype
        q_BLHC = checkpoint_name(jnp.einsum("BLD,DHC->BLHC", x_BLD, self.query[...].astype(dtype)), "query")
        k_BSKC = checkpoint_name(jnp.einsum("BLD,DKC->BLKC", x_BLD, self.key[...].astype(dtype)), "key")
        v_BSKC = checkpoint_name(jnp.einsum("BLD,DKC->BLKC", x_BLD, self.value[...].astype(dtype)), "value")
        if cache is None:
            out_BLHC = self_attention(q_BLHC, k_BSKC, v_BSKC, turns, starts_BL, self.implementation)
            return jnp.einsum("BLHC,HCD->BLD", out_BLHC, self.output[...].astype(dtype)), None
        q_BLHC, k_BSKC = rotate(q_BLHC, turns), rotate(k_BSKC, turns)
        new = {"key": jnp.swapaxes(k_BSKC, 1, 2), "value": jnp.swapaxes(v_BSKC, 1, 2)}
        if "recent" in cache:
            at = (0, 0, cache["num_recent"], 0)
            new = {name: jax.lax.dynamic_update_slice(cache["recent"][name], new[name], at) for name in new}
        out_BLHC = cached_attention(q_BLHC, new, cache, cache["lengths_B"], mask_BLS)
        return jnp.einsum("BLHC,HCD->BLD", out_BLHC, self.output[...].astype(dtype)), new


class Mlp(nnx.Module):
    """SwiGLU feed-forward (Shazeer 2020)."""

    def __init__(self, config, rngs: nnx.Rngs):
        D, F = config.model_dim, config.mlp_dim
        self.gate = _param(rngs, config, (D, F), ("embed", "mlp"))
        self.up = _param(rngs, config, (D, F), ("embed", "mlp"))
        self.down = _param(rngs, config, (F, D), ("mlp", "embed"), (2 * config.num_layers) ** -0.5)

    def __call__(self, x_BLD):
        dtype = x_BLD.dtype
        gate_BLF = checkpoint_name(x_BLD @ self.gate[...].astype(dtype), "gate")
        up_BLF = checkpoint_name(x_BLD @ self.up[...].astype(dtype), "up")
        return (jax.nn.silu(gate_BLF) * up_BLF) @ self.down[...].astype(dtype)


class Layer(nnx.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config, rngs: nnx.Rngs):
        self.epsilon = config.norm_epsilon
        self.attention_norm = _norm_scale(config.model_dim)
        self.attention = Attention(config, rngs)
        self.mlp_norm = _norm_scale(config.model_dim)
        self.mlp = Mlp(config, rngs)

    def __call__(self, x_BLD, turns, starts_BL, mask_BLS, cache=None):
        normed_BLD = rms_norm(x_BLD, self.attention_norm[...], self.epsilon)
        out_BLD, cache = self.attention(normed_BLD, turns, starts_BL, mask_BLS, cache)
        x_BLD = checkpoint_name(constrain(x_BLD + out_BLD, HIDDEN_AXES), "attention_residual")
        x_BLD = x_BLD + self.mlp(rms_norm(x_BLD, self.mlp_norm[...], self.epsilon))
        return constrain(x_BLD, HIDDEN_AXES), cache


class Llama(nnx.Module):
    """Llama 3, 3.1 or 3.2 as `config` (config.model) says. Layers are one module whose arrays have a leading N."""

    def __init__(self, config, rngs: nnx.Rngs):
        self.dtype = jnp.dtype(config.compute_dtype)
        self.epsilon = config.norm_epsilon
        if config.remat not in REMAT_SAVES:
            raise ValueError(f"model.remat is {config.remat!r}; known are {', '.join(REMAT_SAVES)}")
        self.remat = config.remat
        self.frequencies = nnx.static(tuple(rope_frequencies(config).tolist()))
        self.embedding = _param(rngs, config, (config.vocab_size, config.model_dim), ("vocab", "embed"))
        layer = nnx.vmap(lambda rngs: Layer(config, rngs), in_axes=(0,), out_axes=0)
        self.layers = nnx.split_rngs(splits=config.num_layers)(layer)(rngs)
        self.final_norm = _norm_scale(config.model_dim)
        if not config.tie_embeddings:
            self.head = _param(rngs, config, (config.model_dim, config.vocab_size), ("embed", "vocab"))

    def __call__(self, tokens_BL, positions_BL, segments_BL=None, cache=None):
        """(hidden_BLD after the final norm, cache).

        Training and scoring give `segments_BL`: a token sees earlier tokens of its own document; 0 is padding.
        Decoding and scoring of continuations give `cache` (`make_cache`): key and value of earlier tokens, and
        lengths_B, how many a row has. A token sees them all, and earlier ones of those given now: `segments_BL` are
        then branches (`attention.branch_mask`). The cache that is returned holds key and value of the new tokens only,
        each [N, B, K, L, C]; the one given is as it was, so that no pass over the layers copies it.
        """
        x_BLD = self.embed(tokens_BL)
        turns = rope_turns(positions_BL, self.frequencies)
        starts_BL, mask_BLS = None, None
        if cache is None:
            starts_BL = document_starts(segments_BL)
        else:
            rest = {name: cache[name] for name in ("lengths_B", "num_recent") if name in cache}
            cache = {name: array for name, array in cache.items() if name not in rest}
            if "recent" in cache:
                mask_BLS = recent_mask(cache["recent"]["key"].shape[3], rest["num_recent"])
            else:
                mask_BLS = branch_mask(segments_BL)
        graph, layers = nnx.split(self.layers)

        def apply(x_BLD, layer_and_cache):
            layer, cache = layer_and_cache
            cache = cache and {**cache, **rest}
            return nnx.merge(graph, layer)(x_BLD, turns, starts_BL, mask_BLS, cache)

        if self.remat != "none":
            policy = jax.checkpoint_policies.save_only_these_names(*REMAT_SAVES[self.remat])
            apply = jax.checkpoint(apply, policy=policy, prevent_cse=False)
        x_BLD, cache = jax.lax.scan(apply, x_BLD, (layers, cache))
        return rms_norm(x_BLD, self.final_norm[...], self.epsilon), cache

    def embed(self, tokens_BL):
        """x_BLD in compute dtype. Rows are looked up, and their gradients added, in the dtype of the parameter.

        Each device looks up its part of the model dim for all tokens, then they exchange: what travels is of the size
        of the activations, not of the table.
        """
        part_BLD = constrain(self.embedding[...], ("vocab", "embed"))[constrain(tokens_BL, (None, None))]
        part_BLD = constrain(part_BLD.astype(self.dtype), (None, None, "embed"))
        return constrain(part_BLD, HIDDEN_AXES)

    def head_matrix(self):
        """head_DV in compute dtype: the transposed embedding when tied."""
        head_DV = self.head[...] if hasattr(self, "head") else self.embedding[...].T
        return head_DV.astype(self.dtype)

    def logits(self, hidden_BLD):
        """float32 logits_BLV of hidden states; for training use `loss`, which never holds all of them."""
        return jnp.einsum("BLD,DV->BLV", hidden_BLD, self.head_matrix(), preferred_element_type=jnp.float32)


def abstract(config) -> tuple[nnx.GraphDef, Params, Params]:
    """(graph, shapes, logical axes): what `nnx.merge(graph, params)` needs, and two trees like the parameters.

    Leaves of the first tree are jax.ShapeDtypeStruct, of the second tuples of logical axes. Nothing is allocated.
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: Llama(config, nnx.Rngs(params=0))))
    axes = jax.tree.map(lambda param: param.logical, state, is_leaf=lambda x: isinstance(x, nnx.Variable))
    axes = nnx.to_pure_dict(axes)
    axes["layers"] = jax.tree.map(lambda names: ("layers", *names), axes["layers"], is_leaf=lambda x: type(x) is tuple)
    return graph, nnx.to_pure_dict(state), axes


def initialize(config, key: jax.Array) -> Params:
    """Random float32 parameters; residual outputs are scaled by 1 / sqrt(2 N)."""
    return nnx.to_pure_dict(nnx.state(Llama(config, nnx.Rngs(params=key))))


def for_compute(config, params: Params) -> Params:
    """`params` as a step computes with them: matrices are cast once to compute dtype.

    The embedding and the norms' scales stay in float32, so that their gradients are summed in it.
    """
    dtype = jnp.dtype(config.compute_dtype)
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x if path[-1].key.endswith(("embedding", "norm")) else x.astype(dtype), params
    )


def training_flops(config, num_tokens: jax.Array, num_pairs: jax.Array) -> jax.Array:
    """FLOPs that training on so many tokens needs, float32: 6 a token for each weight of a matmul, and 12 a pair of a
    query and a key that it sees for each channel of all heads and layers.

    Counts no recomputation, no pair that the masks of causality and documents exclude, and no lookup.
    """
    D, H, K, C = config.model_dim, config.num_heads, config.num_kv_heads, config.head_dim
    weights = config.num_layers * D * (2 * H * C + 2 * K * C + 3 * config.mlp_dim) + D * config.vocab_size
    return 6.0 * weights * num_tokens + 12.0 * config.num_layers * H * C * num_pairs


def make_cache(config, batch: int, length: int) -> dict[str, jax.Array]:
    """An empty cache for `batch` rows of `length` tokens: key and value, each [N, B, K, S, C], and lengths_B, all 0."""
    shape = (config.num_layers, batch, config.num_kv_heads, length, config.head_dim)
    arrays = {name: jnp.zeros(shape, jnp.dtype(config.compute_dtype)) for name in ("key", "value")}
    return {**arrays, "lengths_B": jnp.zeros(batch, jnp.int32)}
