"""`python -m data_tasks.inspect TASK --config=FILE.py`: a look at what the model is given of one task.

Prints the first documents of a task or mixture as text, their ids and lengths. Reads the corpus and the tokenizer, and
writes nothing. Without a config it is the quickstart's corpus that is looked at.
"""

import itertools
import os
from collections.abc import Iterable

from ml_collections import ConfigDict

import data_tasks
from data_tasks import mixtures, rendering, sizes
from emma_jax import command_line, languages, paper_corpus, tokenizer

CONFIG = "configs/quickstart.py"
SHOWN_DOCUMENTS = 2
SHOWN_CHARACTERS, SHOWN_IDS = 6000, 2000  # of a document: more than ten pairs have, and not all of a book


def main(config: ConfigDict, task: str, split: str = "", documents: str = "") -> None:
    """Prints the first `documents` of a task's `split`.

    Raises ValueError if the corpus has no such task, naming the nearest.
    """
    if not (documents or "1").isdigit():
        raise ValueError(f"--documents is {documents!r}; it must be a whole number")
    if config.corpus.folder == paper_corpus.NAME:
        raise ValueError(f"the corpus {paper_corpus.NAME!r} has numbers and no documents; name a folder that has some")
    corpus, text = paper_corpus.load(config.corpus.folder), tokenizer.load(config.tokenizer.folder)
    mixture, components = {}, {}
    if task not in corpus.tasks:  # of the components, whose tasks a corpus may lack, only what they make is wanted
        mixture, components = config.mixture, mixtures.resolved(config.pack)
        classes = {name: entry.resource_class for name, entry in corpus.tasks.items()}
        mixed = mixtures.rates(sizes.of_corpus(corpus, config.rendering), classes, mixture, components)
        _check_known(task, corpus.tasks, mixed, config.corpus.folder)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow raises is enough
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    data_tasks.register(corpus, text, config.rendering, mixture=mixture, components=components)
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
        num_bytes, way = len(rendered.encode()), _direction(task, int(example.get("direction", -1)))
        print(f"\ndocument {number}{way}: {len(ids)} ids, {num_bytes} bytes, {num_bytes / len(ids):.2f} bytes per id")
        print(_cut(rendered.rstrip("\n"), SHOWN_CHARACTERS, "characters"))
        print(f"ids: {' '.join(map(str, ids[:SHOWN_IDS]))}{_rest(len(ids), SHOWN_IDS, 'ids')}")


def _check_known(task: str, tasks: Iterable[str], mixed: Iterable[str], folder: str) -> None:
    if task in mixed:
        return
    kind, _, name = task.rpartition(".")
    turned = ".".join([kind or rendering.PAIR, "-".join(reversed(name.split("-")))])
    meant = [known for known in tasks if known == turned or known.endswith(f".{task}")]
    near = f"; is {meant[0]} meant?" if meant else languages.nearest(task, [*tasks, *mixed])
    raise ValueError(f"there is no task {task!r} among the {len(list(tasks))} of {folder}{near}")


def _direction(task: str, direction: int) -> str:
    """From which language into which a document of a pair goes.

    >>> _direction("pair.eng_Latn-swh_Latn", 1), _direction("mono.swh_Latn", -1)
    (', swh_Latn to eng_Latn', '')
    """
    codes = rendering.codes_of(task)
    return "" if direction < 0 or len(codes) < 2 else f", {codes[direction]} to {codes[1 - direction]}"


def _cut(text: str, most: int, of_what: str) -> str:
    """The text, or its beginning and how much more there is.

    >>> _cut("a long text", 6, "characters")
    'a long ... and 5 more characters'
    """
    return text[:most] + _rest(len(text), most, of_what)


def _rest(count: int, most: int, of_what: str) -> str:
    return f" ... and {count - most:,} more {of_what}" if count > most else ""


if __name__ == "__main__":
    command_line.run(
        main,
        config=CONFIG,
        flag_help={"split": "train or validation; train", "documents": f"how many to show; {SHOWN_DOCUMENTS}"},
        positional="task",
    )
