"""Random Llamas of each family, and logits, by whichever transformers is first on the path: a program for tests.

It reads jobs from its standard input, one a line, and answers each with a line when it is done; its first line is the
version of transformers. Nothing of ours is imported, so that nothing of ours can be shared by both sides of a test.

    make FAMILY FOLDER DTYPE SEED   a model in small shards
    logits FOLDER IDS.npy OUT.npy   float32 logits_BLV of int64 ids_BL
"""

import gc
import os
import shlex
import sys

# In the words of config.json before transformers 5; no two families have the same shapes and RoPE. The lengths and the
# numbers of RoPE are the published ones, so that rows of 2,048 tokens meet what they met in training.
FAMILIES = {
    "llama2": dict(
        num_attention_heads=8, num_key_value_heads=8, rope_theta=1e4, max_position_embeddings=4096,
    ),
    "llama3-8b": dict(
        num_attention_heads=8, num_key_value_heads=2, rope_theta=5e5, max_position_embeddings=8192,
    ),
    "llama3-70b": dict(
        num_attention_heads=16, num_key_value_heads=2, rope_theta=5e5, max_position_embeddings=8192,
    ),
    "llama3.1": dict(
        num_attention_heads=8, num_key_value_heads=2, rope_theta=5e5, max_position_embeddings=131072,
        rope_scaling=dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ),
    "llama3.2-1b": dict(
        num_attention_heads=8, num_key_value_heads=2, head_dim=32, rope_theta=5e5, max_position_embeddings=131072,
        tie_word_embeddings=True,
        rope_scaling=dict(
            rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ),
    "llama3.2-3b": dict(
        hidden_size=96, num_attention_heads=6, num_key_value_heads=2, head_dim=24, rope_theta=5e5,
        max_position_embeddings=131072, tie_word_embeddings=True,
        rope_scaling=dict(
            rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ),
}  # fmt: skip
SIZES = dict(vocab_size=512, hidden_size=128, intermediate_size=320, num_hidden_layers=3, rms_norm_eps=1e-5)
WEIGHT_DEVIATION = 0.12  # logits of models this wide then have a standard deviation above 1
# Small enough that norm_epsilon shows in the first layer; a tied embedding is also the head and cannot be.
EMBEDDING_DEVIATION = 0.02
SHARD_BYTES = 300_000  # more than the largest tensor has: what is larger is cut otherwise here and there


def make(family: str, folder: str, dtype: str, seed: str) -> None:
    """A random model of `family` in `folder`. Scales of norms are random too: at 1 a swap of two would not show."""
    import torch
    import transformers

    content = {**SIZES, **FAMILIES[family]}
    if is_new():
        rope = content.pop("rope_scaling", None) or {"rope_type": "default"}
        content["rope_parameters"] = {**rope, "rope_theta": content.pop("rope_theta")}
    config = transformers.LlamaConfig(**content)
    model = transformers.LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(int(seed))
    for name, parameter in model.named_parameters():
        is_embedding = "embed_tokens" in name and not config.tie_word_embeddings
        deviation = EMBEDDING_DEVIATION if is_embedding else WEIGHT_DEVIATION
        if parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.5, generator=generator)
        else:
            parameter.data.normal_(0, deviation, generator=generator)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=SHARD_BYTES)


def logits(folder: str, ids: str, out: str) -> None:
    """The logits of the model in `folder`, which must hold just the tensors of its config, as the array `out`."""
    import numpy as np
    import torch
    import transformers

    dtype = {"dtype" if is_new() else "torch_dtype": torch.float32}
    model_class = transformers.LlamaForCausalLM
    gc.freeze()  # old transformers collect garbage after every shard, 0.1 s each with all that is imported
    model, info = model_class.from_pretrained(folder, output_loading_info=True, **dtype)
    wrong = {key: found for key, found in info.items() if found}
    if wrong:
        raise ValueError(f"{folder}: {wrong}")
    with torch.no_grad():
        np.save(out, model(torch.from_numpy(np.load(ids))).logits.numpy())


def is_new() -> bool:
    """Whether this is transformers 5 or newer, where RoPE is one key and torch_dtype is dtype."""
    import transformers

    return int(transformers.__version__.split(".")[0]) >= 5


def main() -> None:
    """Does the jobs until standard input ends."""
    os.environ.update(USE_TF="0", USE_FLAX="0", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import torch
    import transformers

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    print(transformers.__version__, flush=True)
    for line in sys.stdin:
        job, *arguments = shlex.split(line)
        {"make": make, "logits": logits}[job](*arguments)
        print(line, end="", flush=True)


if __name__ == "__main__":
    main()
