"""The FLOPs that a model needs, by its shapes: what MFU is counted against. Nothing is counted that need not be done:
attention sees earlier tokens of its own document only, and nothing is computed twice.
"""


def per_token(config, attended_length: float) -> float:
    """FLOPs of forward and backward pass per token of the model `config` (config.model), matmuls only.

    `attended_length` is the mean number of tokens that a token attends to: half the row if documents fill rows, and
    sum(length^2) / 2 / sum(length) over packed documents. The embedding is a lookup and counts nothing.

    >>> from configs import base
    >>> round(per_token(base.get_config().model, attended_length=8192 / 2) / 1e9, 2)
    51.47
    """
    heads = config.num_heads * config.head_dim
    projections = config.model_dim * (2 * heads + 2 * config.num_kv_heads * config.head_dim)
    layer = projections + 3 * config.model_dim * config.mlp_dim
    weights = config.num_layers * layer + config.model_dim * config.vocab_size
    scores_and_values = 2 * config.num_layers * heads * attended_length
    return 6 * (weights + scores_and_values)
