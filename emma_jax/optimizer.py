"""AdamW with warm-up and cosine decay, gradient clipping and a decay mask. It owns no state; optax does."""

import jax
import optax


def learning_rate(config, steps: int) -> optax.Schedule:
    """The rate at each step: linear from 0 over the warm-up, then a cosine to the final rate at `steps`."""
    if config.warmup_steps >= max(steps, 1):
        raise ValueError(f"optimizer.warmup_steps of {config.warmup_steps} leave nothing of {steps} train.steps")
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if config.warmup_steps else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(steps, 1),
        end_value=config.final_learning_rate,
    )


def make(config, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW (Loshchilov and Hutter 2019); `config` is config.optimizer."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
    )


def decayed(params):
    """A tree of booleans: everything decays but the scales of the norms.

    >>> decayed({"final_norm": 0, "layers": {"mlp": {"gate": 0}, "mlp_norm": 0}})
    {'final_norm': False, 'layers': {'mlp': {'gate': True}, 'mlp_norm': False}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: not path[-1].key.endswith("norm"), params)
