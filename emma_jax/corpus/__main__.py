"""`python -m emma_jax.corpus --config=FILE`: builds the corpus that the config describes, and says what it holds."""

from absl import logging

from emma_jax import command_line


def main(config) -> None:
    """Builds the corpus, or says that it is there."""
    command_line.require_extra("corpus", "apache_beam", "ftfy", "polib", "xxhash")
    paths = (config.corpus.folder, *(source.path for source in config.corpus.sources.values()))
    if any(path.startswith("gs://") for path in paths):
        command_line.require_extra("corpus", "gcsfs")
    from emma_jax.corpus import build, statistics  # after the check: they need the extra

    manifest, was_there = build.build(config.corpus, config.seed)
    for line in statistics.summary(manifest):
        logging.info("%s", line)
    logging.info("corpus in %r is done%s", manifest.folder, ", as it was before" if was_there else "")


if __name__ == "__main__":
    command_line.run(main)
