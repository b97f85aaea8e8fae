"""What all tests share: eight virtual CPU devices, compiled programs, and a tiny configuration."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Programs of tests run for milliseconds and are compiled for seconds: half of them, without LLVM's dearest passes.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# A program is compiled once in a run of the tests: it is kept for those that follow, and for the processes they start.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="emma_jax_tests_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import numpy as np
import pytest

from configs import base
from emma_jax import sharding

ONE_DEVICE = {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=1"}  # for programs
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture
def tiny_config():
    """A complete configuration of a model with grouped heads and scaled RoPE that trains in milliseconds."""
    config = base.get_config()
    config.run_name = "tiny"
    config.model.update(
        vocab_size=96, num_layers=2, model_dim=32, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64,
        rope_original_length=16, max_length=128, compute_dtype="float32", remat="none",
    )  # fmt: skip
    config.pack.row_length = 24
    config.input_pipeline.batch_rows = 8
    config.train.update(steps=12, validation_batch_rows=8)
    config.optimizer.update(learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=2)
    return config


@pytest.fixture
def one_device_mesh():
    """A mesh of the first CPU device."""
    return sharding.make_mesh(base.get_config().sharding, jax.devices()[:1])


@pytest.fixture
def random_batch(tiny_config):
    """A function of a seed: rows of three documents and padding, as int32 arrays."""

    def make(seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        rows, length = tiny_config.input_pipeline.batch_rows, tiny_config.pack.row_length
        segments, positions = np.zeros((rows, length), np.int32), np.zeros((rows, length), np.int32)
        for row in range(rows):
            ends = np.sort(rng.choice(np.arange(1, length + 1), 3, replace=False))
            for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
                segments[row, start:end] = number
                positions[row, start:end] = np.arange(end - start)
        ids = rng.integers(0, tiny_config.model.vocab_size, (2, rows, length), dtype=np.int32) * (segments > 0)
        return dict(tokens=ids[0], targets=ids[1], segments=segments, positions=positions, tasks=segments - 1)

    return make
