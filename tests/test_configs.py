"""The configurations as records of the experiment."""

import pytest

from configs import base, bilingual, monolingual, quickstart
from emma_jax import command_line

CONFIGS = [
    bilingual.get_config("llama3-8b"),
    bilingual.get_config("llama3.1-8b"),
    monolingual.get_config("llama3-8b"),
    monolingual.get_config("llama3.1-8b"),
]


def flat(config):
    return dict(command_line._leaves(config))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.run_name)
def test_tokens_per_step_and_in_all(config):
    tokens = config.input_pipeline.batch_rows * config.pack.row_length
    assert tokens == 2**24
    steps, billions = {"bi": (40_000, 671), "mono": (25_000, 419)}[config.run_name.rsplit("-", 1)[1]]
    print(f"{config.run_name}: {config.train.steps:,} steps of {tokens:,} tokens")
    assert config.train.steps == steps
    assert tokens * steps // 10**9 == billions


@pytest.mark.parametrize("model", base.MODELS)
def test_the_arms_differ_in_mixture_steps_warmup_and_name_only(model):
    bi, mono = flat(bilingual.get_config(model)), flat(monolingual.get_config(model))
    differing = {key for key in bi if bi[key] != mono[key]}
    assert differing == {"mixture", "train.steps", "optimizer.warmup_steps", "run_name"}


def test_the_models_differ_in_rope_scaling_only():
    old, new = flat(bilingual.get_config("llama3-8b")), flat(bilingual.get_config("llama3.1-8b"))
    differing = {key for key in old if old[key] != new[key]}
    assert differing == {"model.rope_scaling_factor", "model.max_length", "run_name", "train.base", "tokenizer.folder"}


def test_the_second_mixture_is_the_first_without_parallel_text():
    first = {name: share for name, share in base.MIX_1.items() if name != "bilingual"}
    for name, share in first.items():
        # Published shares have one decimal.
        assert monolingual.MIX_2[name] == pytest.approx(100 * share / sum(first.values()), abs=0.15)


@pytest.mark.parametrize("arm", ["base", "monolingual", "bilingual"])
def test_every_config_has_the_keys_of_the_base(arm):
    command_line.check_config(quickstart.get_config(arm), base.get_config())


def test_the_quickstart_arms_are_token_matched():
    bi, mono = flat(quickstart.get_config("bilingual")), flat(quickstart.get_config("monolingual"))
    assert {key for key in bi if bi[key] != mono[key]} == {"mixture", "run_name"}
