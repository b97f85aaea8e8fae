"""The corpora of the paper, from copies of the datasets that its authors published: `:FOLDER`, local or gs://.

`FOLDER` holds a folder for each dataset, as it is on the Hugging Face Hub (MaLA-LM/<name>); those that are not there
are left out. At the size of the paper (16 billion pairs) this is work for a Beam cluster:
`--config.corpus.exchange=shuffle --config.corpus.beam_options="('--runner=DataflowRunner',...)"`.
"""

from etils import epath

from configs import base

# Dataset -> reader and kind; licences are those of the datasets' own parts, which their cards list.
DATASETS = {
    "mala-bilingual-translation-corpus": ("records", "monolingual"),
    "mala-monolingual-split": ("records", "monolingual"),
    "mala-code-reasoning": ("mala_code_reasoning", "monolingual"),
    "mala-code-reasoning-v2": ("mala_code_reasoning", "monolingual"),
    "books": ("records", "book"),
}


def get_config(folder: str = "mala"):
    """The configuration of the corpus in `<folder>/corpus`."""
    there = [name for name in DATASETS if (epath.Path(folder) / name).exists()]
    if not there:
        raise ValueError(f"there is none of {', '.join(DATASETS)} in {folder!r}; put copies of those datasets there")
    config = base.get_config()
    config.run_name = "corpus"
    config.corpus.folder = f"{folder}/corpus"
    for name in there:
        reader, kind = DATASETS[name]
        section = base.source(reader, f"{folder}/{name}", licence="as its dataset card says", kind=kind)
        config.corpus.sources[name.replace("-", "_")] = section
    # Of billions of pairs a small share is enough, and the hashes of what is held out must fit in a worker's memory.
    config.corpus.validation_share = 0.0005
    config.corpus.shard_bytes = 512 << 20
    return config
