"""emma_jax: continual pre-training of Llama 3 on hundreds of languages and thousands of language pairs."""

import os

# Where TensorFlow is installed, epath would open files in buckets through it, and Arrow can use no such file.
os.environ.setdefault("EPATH_USE_TF", "false")
