"""AdamW with its schedules, gradient clipping and a decay mask. It owns no state; optax does."""

import jax
import jax.numpy as jnp
import optax

SCHEDULES = ("cosine", "wsd")


def learning_rate(config, steps: int) -> optax.Schedule:
    """The rate at each step: linear from 0 over the warm-up, then by `schedule` to the final rate at `steps`.

    cosine falls all the way. wsd (warm-up, stable, decay; Hu et al. 2024) stays at the peak, then falls linearly over
    the last `decay_share` of all steps. Raises ValueError if these leave no step in between.
    """
    if config.schedule not in SCHEDULES:
        raise ValueError(f"optimizer.schedule is {config.schedule!r}; known are {', '.join(SCHEDULES)}")
    steps = max(steps, 1)
    decay_steps = round(config.decay_share * steps) if config.schedule == "wsd" else 0
    if config.warmup_steps + decay_steps >= steps:
        decay = f" and {decay_steps} of decay" if decay_steps else ""
        raise ValueError(f"optimizer.warmup_steps of {config.warmup_steps}{decay} leave nothing of {steps} train.steps")
    peak, end = config.learning_rate, config.final_learning_rate
    warmup = optax.linear_schedule(0.0, peak, config.warmup_steps) if config.warmup_steps else lambda step: peak
    if config.schedule == "cosine":
        rest = [optax.cosine_decay_schedule(peak, steps - config.warmup_steps, end / peak)]
    else:
        rest = [optax.constant_schedule(peak), optax.linear_schedule(peak, end, decay_steps)]
    return optax.join_schedules([warmup, *rest], [config.warmup_steps, steps - decay_steps][: len(rest)])


def make(config, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW (Loshchilov and Hutter 2019); `config` is config.optimizer."""
    adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.epsilon)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.chain(
            stored_as(adam, jnp.dtype(config.moments_dtype)),
            optax.add_decayed_weights(config.weight_decay, mask=decayed),
            optax.scale_by_learning_rate(learning_rate(config, steps)),
        ),
    )


def stored_as(transform: optax.GradientTransformation, dtype: jnp.dtype) -> optax.GradientTransformation:
    """`transform`, whose floating-point state is computed in float32 and kept as `dtype` between steps."""

    def cast(state, dtype):
        return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)

    def update(updates, state, params=None):
        updates, state = transform.update(updates, cast(state, jnp.float32), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(lambda params: cast(transform.init(params), dtype), update)


def decayed(params):
    """A tree of booleans: everything decays but the scales of the norms.

    >>> decayed({"final_norm": 0, "layers": {"mlp": {"gate": 0}, "mlp_norm": 0}})
    {'final_norm': False, 'layers': {'mlp': {'gate': True}, 'mlp_norm': False}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: not path[-1].key.endswith("norm"), params)
