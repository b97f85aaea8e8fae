"""The readers, by the name that `config.corpus.sources` uses; `corpus.source` says what a reader is."""

from emma_jax.corpus.readers import gettext, mala_code_reasoning, moses, records, table, tfds, tmx, tsv

READERS = {
    "gettext": gettext,
    "mala_code_reasoning": mala_code_reasoning,
    "moses": moses,
    "records": records,
    "table": table,
    "tfds": tfds,
    "tmx": tmx,
    "tsv": tsv,
}
