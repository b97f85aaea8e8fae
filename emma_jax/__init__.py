"""emma_jax: continual pre-training of Llama 3 on hundreds of languages and thousands of language pairs."""
