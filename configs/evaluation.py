"""What evaluation takes where no config is named: benchmarks need no run of ours, only a model."""

from configs import base


def get_config():
    """The defaults."""
    return base.get_config()
