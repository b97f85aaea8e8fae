"""What a model is asked and how its answers become numbers: the tasks of `emma_jax.evaluate`."""
