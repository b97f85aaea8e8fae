"""`python -m data_tasks.inspect TASK --config=FILE.py`: a look at what the model is given of one task.

Prints the first documents as text, their ids and lengths. Reads the corpus and the tokenizer, and writes nothing.
"""

import itertools
import os

from ml_collections import ConfigDict

import data_tasks
from data_tasks import mixtures
from emma_jax import command_line, languages, manifest, tokenizer

SHOWN_DOCUMENTS = 2


def main(config: ConfigDict, task: str, split: str = "", documents: str = "") -> None:
    """Prints the first `documents` of a task's `split`.

    Raises ValueError if the corpus has no such task, naming the nearest.
    """
    if not (documents or "1").isdigit():
        raise ValueError(f"--documents is {documents!r}; it must be a whole number")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow raises is enough
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    text = tokenizer.load(config.tokenizer.folder)
    corpus = manifest.load(config.corpus.folder)
    names = data_tasks.register(
        corpus, text, config.rendering, mixture=config.mixture, components=mixtures.resolved(config.pack)
    )
    known = names.tasks + names.mixtures
    if task not in known:
        near = languages.nearest(task, known)
        raise ValueError(f"there is no task {task!r} among the {len(names.tasks)} of {config.corpus.folder}{near}")

    import seqio  # by now known to be there

    provider = seqio.get_mixture_or_task(task)
    split = split or "train"
    if split not in provider.splits:
        raise ValueError(f"{task} has no split {split!r}; it has {', '.join(sorted(provider.splits))}")
    dataset = provider.get_dataset(sequence_length=None, split=split, shuffle=False, seed=config.seed)
    print(f"{task}: {provider.num_input_examples(split)} records in {split}")
    for number, example in enumerate(itertools.islice(dataset, int(documents or SHOWN_DOCUMENTS)), 1):
        ids = example["targets"].numpy().tolist()
        rendered = text.decode(ids)
        num_bytes = len(rendered.encode())
        print(f"\ndocument {number}: {len(ids)} ids, {num_bytes} bytes, {num_bytes / len(ids):.2f} bytes per id")
        print(rendered.rstrip("\n"))
        print(f"ids: {' '.join(map(str, ids))}")


if __name__ == "__main__":
    command_line.run(
        main,
        flag_help={"split": "train or validation; train", "documents": f"how many to show; {SHOWN_DOCUMENTS}"},
        positional="task",
    )
