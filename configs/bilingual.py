"""EMMA-500 Gen 2 with parallel text (Mix 1): `:llama3-8b` or `:llama3.1-8b`, 40,000 steps of 2^24 tokens."""

from configs import base

# Shares of tokens, in percent, as published.
MIX_1 = dict(bilingual=32.3, monolingual=26.3, code=15.0, paper=13.2, instruction=11.4, book=1.8)


def get_config(model: str = "llama3.1-8b"):
    """The run of that base model."""
    config = base.paper(model)
    config.run_name = f"emma-500-{model}-bi"
    config.mixture.update(MIX_1)
    config.train.steps = 40_000
    config.optimizer.warmup_steps = 2_000
    return config
