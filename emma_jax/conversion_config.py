"""Hugging Face's config.json and our config.model, each from the other.

One table names the keys of both. What our model cannot compute is refused by name, never approximated. It owns no
files and no tensors.
"""

from collections.abc import Mapping
from typing import Any

# (ours, theirs, type)
KEYS = (
    ("vocab_size", "vocab_size", int),
    ("num_layers", "num_hidden_layers", int),
    ("model_dim", "hidden_size", int),
    ("num_heads", "num_attention_heads", int),
    ("num_kv_heads", "num_key_value_heads", int),
    ("head_dim", "head_dim", int),
    ("mlp_dim", "intermediate_size", int),
    ("norm_epsilon", "rms_norm_eps", float),
    ("tie_embeddings", "tie_word_embeddings", bool),
    ("max_length", "max_position_embeddings", int),
    ("initializer_range", "initializer_range", float),
)
LLAMA3_KEYS = (
    ("rope_scaling_factor", "factor", float),
    ("rope_low_frequency_factor", "low_freq_factor", float),
    ("rope_high_frequency_factor", "high_freq_factor", float),
    ("rope_original_length", "original_max_position_embeddings", int),
)
# Values that mean the model is ours; an absent key means the first.
SUPPORTED = {
    "model_type": ("llama",),
    "architectures": (["LlamaForCausalLM"], None),
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0.0, None),
    "partial_rotary_factor": (1.0, None),
    "quantization_config": (None,),
}
# What transformers takes where a file, older than the key, lacks it.
DEFAULTS = {"tie_word_embeddings": False, "initializer_range": 0.02}
DEFAULT_ROPE_THETA = 10000.0
GENERATION_FILE = "generation_config.json"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def to_model(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """config.model of the Llama that config.json describes: Llama 2, 3, 3.1 or 3.2.

    RoPE is read from `rope_parameters` (transformers 5) or `rope_scaling` and `rope_theta` (before). Weights in
    bfloat16 are computed with in bfloat16, others in float32. Raises ValueError, naming the key and its value, for
    anything our model does not compute and for a missing or contradictory key.
    """
    for key, accepted in SUPPORTED.items():
        value = config_json.get(key, None if key == "model_type" else accepted[0])
        if value not in accepted:
            raise ValueError(f"config.json has {key} {value!r}; only {accepted[0]!r} is supported")
    filled = {**DEFAULTS, **{key: value for key, value in config_json.items() if value is not None}}
    heads, model_dim = (_typed(filled, key, int) for key in ("num_attention_heads", "hidden_size"))
    filled.setdefault("num_key_value_heads", heads)
    filled.setdefault("head_dim", model_dim // heads)
    model = {ours: _typed(filled, theirs, kind) for ours, theirs, kind in KEYS}
    if heads % model["num_kv_heads"] or model["head_dim"] % 2:
        raise ValueError(
            f"config.json has {heads} attention heads of dim {model['head_dim']} and {model['num_kv_heads']} key-value "
            "heads; the first must be a multiple of the last, and the dim even"
        )
    half = filled.get("dtype", filled.get("torch_dtype")) == "bfloat16"
    # Rematerialisation is no property of a model; a run that trains sets its own.
    return {
        **model,
        **_rope(filled),
        "compute_dtype": "bfloat16" if half else "float32",
        "remat": "none",
        "attention": "auto",
    }


def from_model(model: Mapping[str, Any], dtype: str, token_ids: Mapping[str, int | None]) -> dict[str, Any]:
    """config.json of a model whose weights are stored as `dtype` and whose special tokens are `token_ids`.

    RoPE is written in the forms of old and new transformers: a version that finds only the other's key would silently
    compute with its defaults.
    """
    rope_scaling = None
    if model["rope_scaling_factor"] != 1.0:
        rope_scaling = {"rope_type": "llama3", **{theirs: kind(model[ours]) for ours, theirs, kind in LLAMA3_KEYS}}
    theta = float(model["rope_theta"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{theirs: kind(model[ours]) for ours, theirs, kind in KEYS},
        "rope_parameters": {"rope_theta": theta, **(rope_scaling or {"rope_type": "default"})},
        "rope_theta": theta,
        "rope_scaling": rope_scaling,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
        **token_ids,
    }


def generation_config(token_ids: Mapping[str, Any]) -> dict[str, Any]:
    """generation_config.json of a model that has none: the special tokens among `token_ids` that are known."""
    known = {key: token_ids[key] for key in TOKEN_IDS if token_ids.get(key) is not None}
    return {"_from_model_config": True, **known}


def token_ids(generation: Mapping[str, Any], vocabulary) -> dict[str, Any]:
    """The special tokens for config.json: those of generation_config.json, which may be several, or the tokenizer's.

    `vocabulary` is a `tokenizer.Tokenizer` or None.
    """
    ids = {key: generation.get(key) for key in TOKEN_IDS}
    for key, value in ids.items():
        if value is None and vocabulary is not None:
            ids[key] = getattr(vocabulary, key.replace("_token_id", "_id"))
    return ids


def _rope(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """The keys `rope_*` of config.model."""
    forms = [_rope_form(config_json, key) for key in ("rope_parameters", "rope_scaling") if config_json.get(key)]
    if not forms:
        forms = [_rope_form({**config_json, "rope_scaling": {"rope_type": "default"}}, "rope_scaling")]
    if forms[0] != forms[-1]:
        raise ValueError("config.json contradicts itself: rope_parameters and rope_scaling with rope_theta differ")
    return forms[0]


def _rope_form(config_json: Mapping[str, Any], key: str) -> dict[str, Any]:
    rope = config_json[key]
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, Mapping) else rope
    if kind not in ("default", "llama3") or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"config.json has {key} {rope!r}; only the types 'default' and 'llama3', unchanged, are known")
    thetas = {float(part["rope_theta"]) for part in (rope, config_json) if part.get("rope_theta") is not None}
    if len(thetas) > 1:
        raise ValueError(f"config.json contradicts itself: it has the values {sorted(thetas)} of rope_theta")
    scaling = {ours: _typed(rope, theirs, as_type) for ours, theirs, as_type in LLAMA3_KEYS} if kind == "llama3" else {}
    # Without scaling the last three are not read; they are there because config.model has them.
    unscaled = dict(
        rope_scaling_factor=1.0,
        rope_low_frequency_factor=1.0,
        rope_high_frequency_factor=4.0,
        rope_original_length=_typed(config_json, "max_position_embeddings", int),
    )
    return {"rope_theta": thetas.pop() if thetas else DEFAULT_ROPE_THETA, **unscaled, **scaling}


def _typed(mapping: Mapping[str, Any], key: str, kind: type) -> Any:
    if key not in mapping:
        raise ValueError(f"config.json has no key {key}")
    value = mapping[key]
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        raise ValueError(f"config.json has {key} {value!r}; expected {kind.__name__}")
    if kind is not bool and value <= 0:
        raise ValueError(f"config.json has {key} {value!r}; expected more than 0")
    return kind(value)
