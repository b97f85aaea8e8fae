"""The readers, by the name that `config.corpus.sources` uses; `corpus.source` says what a reader is."""

from emma_jax.corpus.readers import gettext

READERS = {"gettext": gettext}
