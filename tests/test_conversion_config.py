"""config.json of the Llama family to config.model and back; what is not a Llama of ours is refused by name."""

import pytest
from random_model import model_config, needs_torch

from emma_jax import conversion_config

LLAMA31_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
# What config.json of the published models says of the architecture.
LLAMA2_7B = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", hidden_size=4096, initializer_range=0.02,
    intermediate_size=11008, max_position_embeddings=4096, num_attention_heads=32, num_hidden_layers=32,
    num_key_value_heads=32, pretraining_tp=1, rms_norm_eps=1e-05, rope_scaling=None, tie_word_embeddings=False,
    torch_dtype="float16", vocab_size=32000,
)  # fmt: skip
LLAMA3_8B = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", attention_bias=False, attention_dropout=0.0,
    bos_token_id=128000, eos_token_id=128001, hidden_act="silu", hidden_size=4096, initializer_range=0.02,
    intermediate_size=14336, max_position_embeddings=8192, num_attention_heads=32, num_hidden_layers=32,
    num_key_value_heads=8, pretraining_tp=1, rms_norm_eps=1e-05, rope_scaling=None, rope_theta=500000.0,
    tie_word_embeddings=False, torch_dtype="bfloat16", vocab_size=128256,
)  # fmt: skip
LLAMA31_8B = {**LLAMA3_8B, "max_position_embeddings": 131072, "mlp_bias": False, "rope_scaling": LLAMA31_SCALING}
LLAMA32_1B = {
    **LLAMA31_8B,
    **dict(head_dim=64, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, tie_word_embeddings=True),
    "rope_scaling": {**LLAMA31_SCALING, "factor": 32.0},
}
EXPECTED = {
    "llama2": (LLAMA2_7B, dict(num_kv_heads=32, head_dim=128, rope_theta=10000.0, compute_dtype="float32")),
    "llama3": (LLAMA3_8B, dict(num_kv_heads=8, rope_theta=500000.0, rope_scaling_factor=1.0, max_length=8192)),
    "llama3.1": (LLAMA31_8B, dict(rope_scaling_factor=8.0, rope_original_length=8192, compute_dtype="bfloat16")),
    "llama3.2": (LLAMA32_1B, dict(tie_embeddings=True, head_dim=64, rope_scaling_factor=32.0, mlp_dim=8192)),
}
NO_IDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)


def in_new_form(config_json):
    """The same model as transformers 5 writes it: RoPE under one key."""
    rest = {key: value for key, value in config_json.items() if key not in ("rope_scaling", "rope_theta")}
    rope = config_json["rope_scaling"] or {"rope_type": "default"}
    return {**rest, "rope_parameters": {**rope, "rope_theta": config_json.get("rope_theta", 10000.0)}}


@pytest.mark.parametrize("name", EXPECTED)
def test_published_configs_are_read_in_old_and_new_form(name):
    config_json, expected = EXPECTED[name]
    found = conversion_config.to_model(config_json)
    assert found == conversion_config.to_model(in_new_form(config_json))
    assert set(found) == set(model_config())
    assert {key: found[key] for key in expected} == expected
    dtype = found["compute_dtype"]
    assert conversion_config.to_model(conversion_config.from_model(found, dtype, NO_IDS)) == found


@needs_torch
@pytest.mark.parametrize("name", EXPECTED)
def test_transformers_reads_our_config_as_the_published_one(name):
    import transformers

    config_json, _ = EXPECTED[name]
    ours = conversion_config.from_model(conversion_config.to_model(config_json), "bfloat16", NO_IDS)
    old_keys_only = {key: value for key, value in ours.items() if key != "rope_parameters"}
    new_keys_only = {key: value for key, value in ours.items() if key not in ("rope_scaling", "rope_theta")}
    published = transformers.LlamaConfig(**config_json)
    for content in (ours, old_keys_only, new_keys_only):
        found = transformers.LlamaConfig(**content)
        assert found.rope_parameters == published.rope_parameters
        for _, key, _ in conversion_config.KEYS:
            assert getattr(found, key) == getattr(published, key), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(model_type="mistral"), "model_type 'mistral'"),
        (dict(architectures=["LlamaForSequenceClassification"]), "architectures .'LlamaForSequenceClassification'"),
        (dict(hidden_act="gelu"), "hidden_act 'gelu'; only 'silu'"),
        (dict(attention_bias=True), "attention_bias True"),
        (dict(mlp_bias=True), "mlp_bias True"),
        (dict(quantization_config={"bits": 4}), "quantization_config"),
        (dict(rope_scaling={"type": "linear", "factor": 2.0}), "rope_scaling .*'linear'.*only the types"),
        (dict(rope_scaling={"rope_type": "yarn", "factor": 2.0}), "'yarn'"),
        (dict(rope_scaling={"rope_type": "llama3", "factor": 8.0}), "no key low_freq_factor"),
        (dict(rope_parameters={"rope_type": "llama3"}), "no key factor"),
        (dict(rope_parameters={**LLAMA31_SCALING, "rope_theta": 1e4}), "contradicts itself.*rope_theta"),
        (
            dict(rope_scaling=LLAMA31_SCALING, rope_parameters={**LLAMA31_SCALING, "factor": 4.0}),
            "contradicts itself: rope_parameters and rope_scaling",
        ),
        (dict(hidden_size="4096"), "hidden_size '4096'; expected int"),
        (dict(num_hidden_layers=0), "num_hidden_layers 0; expected more than 0"),
        (dict(num_key_value_heads=5), "32 attention heads .* 5 key-value heads"),
        (dict(rms_norm_eps=None), "no key rms_norm_eps"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_other_models_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        conversion_config.to_model({**LLAMA3_8B, **changes})
