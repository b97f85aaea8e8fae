"""The model's logits: equal to transformers' on an export, blind to other documents and to what comes later."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_model
from flax import nnx
from random_model import logits, model_config, needs_torch, parameters

from emma_jax import conversion, conversion_config, model

MODELS = {
    "llama3.1": dict(),
    "llama3": dict(rope_scaling_factor=1.0),
    "llama3.2": dict(tie_embeddings=True, rope_scaling_factor=32.0),
    "llama2": dict(rope_scaling_factor=1.0, rope_theta=10000.0, num_kv_heads=8, norm_epsilon=1e-6),
}
TEXTS = {
    "Latn": "The old lighthouse keeper wrote a letter every evening.",
    "Cyrl": "Утром на рынке продают свежий хлеб и яблоки.",
    "Arab": "ذهب الأولاد إلى المدرسة قبل شروق الشمس.",
    "Deva": "नदी के किनारे एक छोटा सा गाँव है।",
    "Beng": "বৃষ্টির পরে আকাশে রংধনু দেখা গেল।",
    "Ethi": "ልጆቹ በጓሮው ውስጥ ኳስ ይጫወታሉ።",
    "Grek": "Το καράβι έφυγε από το λιμάνι το βράδυ.",
    "Hani": "山上的老房子有一个红色的门。",
    "Hang": "겨울에는 호수가 꽁꽁 얼어붙습니다.",
    "Thai": "แมวสีดำนอนหลับอยู่ใต้ต้นไม้ใหญ่",
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """(config, params, the model that transformers loads from their export)."""
    import transformers

    folder = tmp_path_factory.mktemp(request.param)
    config = model_config(**MODELS[request.param])
    params = parameters(config)
    random_model.write_workdir(folder / "run", config, params)
    conversion.export_hf(str(folder / "run"), str(folder / "hf"), "float32")
    return config, params, transformers.LlamaForCausalLM.from_pretrained(folder / "hf")


def reference(theirs, tokens):
    import torch

    with torch.no_grad():
        return theirs(torch.tensor(np.asarray(tokens, np.int64))).logits.numpy()


def assert_equal_logits(ours, theirs):
    assert theirs.std() >= 1
    assert np.abs(ours - theirs).max() <= 1e-4


@needs_torch
def test_logits_equal_transformers_on_rows_of_2048_tokens(pair):
    config, params, theirs = pair
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, 2048))
    assert_equal_logits(logits(config, params, tokens), reference(theirs, tokens))


@needs_torch
def test_logits_equal_transformers_on_ten_scripts_packed_into_a_row(pair):
    config, params, theirs = pair
    documents = [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in TEXTS.values()]
    found = logits(config, params, *row_of(documents))[0]
    start = 0
    for document in documents:
        assert_equal_logits(found[start : start + len(document)], reference(theirs, document[None])[0])
        start += len(document)


@needs_torch
@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("factor", [1.0, 8.0, 32.0])
def test_rope_frequencies_are_those_of_transformers_bit_for_bit(head_dim, theta, factor):
    from transformers.models.llama import modeling_llama

    config = model_config(
        head_dim=head_dim, rope_theta=theta, rope_scaling_factor=factor, rope_original_length=8192, max_length=131072
    )
    theirs = modeling_llama.LlamaConfig(**conversion_config.from_model(config, "float32", {}))
    expected = modeling_llama.LlamaRotaryEmbedding(theirs).inv_freq.numpy()
    found = model.rope_frequencies(config)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def row_of(documents, length=None):
    """(tokens, positions, segments) of one row that holds `documents`, padded to `length`."""
    arrays = [
        np.concatenate(documents),
        np.concatenate([np.arange(len(document)) for document in documents]),
        np.concatenate([np.full(len(document), number) for number, document in enumerate(documents, 1)]),
    ]
    missing = (length or len(arrays[0])) - len(arrays[0])
    return [np.pad(array, (0, missing))[None].astype(np.int32) for array in arrays]


def random_documents(config, lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, config.vocab_size, length) for length in lengths]


def test_a_packed_document_has_the_logits_it_has_alone():
    config = model_config()
    params, documents = parameters(config), random_documents(config, (30, 1, 70, 50))
    packed = logits(config, params, *row_of(documents, length=160))[0]
    start = 0
    for document in documents:
        alone = logits(config, params, document[None])[0]
        np.testing.assert_allclose(packed[start : start + len(document)], alone, atol=2e-5)
        start += len(document)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_changing_a_document_leaves_the_others_bitwise_unchanged(compute_dtype):
    config = model_config(compute_dtype=compute_dtype)
    params, documents = parameters(config), random_documents(config, (30, 40, 70))
    row = row_of(documents, length=160)
    before = logits(config, params, *row)[0]
    for changed, (start, stop) in enumerate(((0, 30), (30, 70), (70, 140), (140, 160))):
        tokens = row[0].copy()
        tokens[0, start:stop] = (tokens[0, start:stop] + 1) % config.vocab_size
        after = logits(config, params, tokens, *row[1:])[0]
        others = np.r_[0:start, stop:160]
        np.testing.assert_array_equal(before[others], after[others], err_msg=f"document {changed}")
        assert (before[start:stop] != after[start:stop]).any(axis=-1).all()


def test_logits_depend_on_their_own_and_earlier_tokens_only():
    config = model_config(num_layers=2)
    params = parameters(config)
    tokens = np.random.default_rng(0).permutation(config.vocab_size)[None, :24]
    positions = np.arange(24)[None]

    @jax.jit
    @jax.grad
    def gradient(embedding, position):
        llama = nnx.merge(model.abstract(config)[0], {**params, "embedding": embedding})
        hidden, _ = llama(jnp.asarray(tokens), jnp.asarray(positions), jnp.ones((1, 24), jnp.int32))
        return llama.logits(hidden)[0, position, 7]

    # All tokens differ, so a position's share of the gradient is the row of its token.
    for position in (0, 11, 23):
        shares = np.abs(np.asarray(gradient(params["embedding"], position))[tokens[0]]).sum(axis=-1)
        assert (shares[: position + 1] > 0).all()
        assert (shares[position + 1 :] == 0).all()


def test_a_tied_model_has_no_head_and_uses_its_embedding():
    config = model_config(tie_embeddings=True)
    params = parameters(config)
    untied = {**params, "head": params["embedding"].T}
    tokens = np.arange(16)[None]
    np.testing.assert_array_equal(
        logits(config, params, tokens), logits(model_config(tie_embeddings=False), untied, tokens)
    )
    assert "head" not in params
