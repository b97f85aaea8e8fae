"""EMMA-500 Gen 2 with parallel text (Mix 1): `:llama3-8b` or `:llama3.1-8b`, 40,000 steps of 2^24 tokens."""

from configs import base


def get_config(model: str = "llama3.1-8b"):
    """The run of that base model."""
    config = base.paper(model)
    config.run_name = f"emma-500-{model}-bi"
    config.mixture.update(base.MIX_1)
    config.train.steps = base.STEPS
    config.optimizer.warmup_steps = 2_000
    return config
