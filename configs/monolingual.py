"""EMMA-500 Gen 2 without parallel text (Mix 2): `:llama3-8b` or `:llama3.1-8b`, 25,000 steps of 2^24 tokens."""

from configs import base

# Shares of tokens, in percent, as published.
MIX_2 = dict(monolingual=38.9, code=22.1, paper=19.5, instruction=16.8, book=2.6)


def get_config(model: str = "llama3.1-8b"):
    """The run of that base model."""
    config = base.paper(model)
    config.run_name = f"emma-500-{model}-mono"
    config.mixture.update(MIX_2)
    config.train.steps = 25_000
    config.optimizer.warmup_steps = 1_250
    return config
