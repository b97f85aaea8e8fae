"""SeqIO tasks from a manifest: one per language, pair and collection, and the source that reads their Parquet shards.

Owns the names of tasks, what they are made of, and their place in SeqIO's registry. Reading is lazy: thousands of tasks
are defined without a look at a file.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import seqio
import tensorflow as tf
from etils import epath
from ml_collections import ConfigDict

from data_tasks import mixtures, preprocessors, rendering, sizes
from data_tasks.vocabulary import TokenizerVocabulary
from emma_jax import manifest
from emma_jax.tokenizer import Tokenizer

TEXT_COLUMNS = ("text",)
PAIR_COLUMNS = ("src_text", "tgt_text")
SHUFFLE_RECORDS = 10_000  # that a record is drawn from; held in memory by each open task
BATCH_RECORDS = 1024  # that go from Arrow to TensorFlow at once

# What `register` defined last: its arguments, the tasks, the mixtures.
_defined: tuple[str, tuple[str, ...], tuple[str, ...]] = ("", (), ())


class ParquetSource(seqio.DataSource):
    """Records of one language or pair: a feature for each column, and `split`. A shard is a file.

    Shuffled reading shuffles the files, and the records within a buffer, so that an epoch groups other pairs into a
    document than the one before.
    """

    def __init__(self, corpus: manifest.Manifest, entry: manifest.Entry, columns: Sequence[str]):
        rows = {name: split.rows for name, split in entry.splits.items()}
        super().__init__(splits=entry.splits, num_input_examples=rows, performs_internal_shuffling=True)
        self._corpus = corpus
        self._entry = entry
        self._columns = tuple(columns)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """False: there are no more shards than files; SeqIO divides the records where it needs more."""
        return False

    def list_shards(self, split: str) -> list[str]:
        """Names of the split's files, as they stand in the manifest."""
        return list(self._entry.splits[split].files)

    def get_dataset(self, split="train", shuffle=True, seed=None, shard_info=None, **_) -> tf.data.Dataset:
        """Records of a split, or of every file that is a shard's.

        Raises ValueError if there is no such split, or a file is missing, damaged or without its columns.
        """
        if split not in self._entry.splits:
            raise ValueError(f"there is no split {split!r}; there are {', '.join(self.splits)}")
        files = self.list_shards(split)
        if shard_info:
            files = files[shard_info.index :: shard_info.num_shards]
        for file in files:
            self._check(file)
        signature = {name: tf.TensorSpec([None], tf.string) for name in (*self._columns, "split")}

        def read(file: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.from_generator(self._batches, output_signature=signature, args=(split, file))

        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(files, tf.string, [len(files)]))
        if shuffle and files:
            dataset = dataset.shuffle(len(files), seed=seed)
        dataset = dataset.flat_map(read).unbatch()
        return dataset.shuffle(SHUFFLE_RECORDS, seed=seed) if shuffle else dataset

    def _batches(self, split: bytes, file: bytes) -> Iterator[dict[str, np.ndarray]]:
        one_file = manifest.Entry({"": manifest.Split((file.decode(),), 0, 0, 0)}, "", {})
        for records in self._corpus.read(one_file, ""):
            for start in range(0, records.num_rows, BATCH_RECORDS):
                batch = records.slice(start, BATCH_RECORDS)
                texts = {name: batch.column(name).cast(pa.binary()) for name in self._columns}
                yield {
                    **{name: column.to_numpy(zero_copy_only=False) for name, column in texts.items()},
                    "split": np.full(batch.num_rows, split, object),
                }

    def _check(self, file: str) -> None:
        # An error inside a dataset would reach the user as one of TensorFlow's.
        path = epath.Path(self._corpus.path(file))
        try:
            with path.open("rb") as stream:
                found = pq.read_schema(stream).names
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise ValueError(f"corpus shard {path} is missing or damaged ({error}); build the corpus again") from error
        if missing := set(self._columns) - set(found):
            raise ValueError(f"corpus shard {path} has no column {', '.join(sorted(missing))}; it has {found}")


class CorpusTask(seqio.Task):
    """A task whose name may hold the hyphen of a language pair, which SeqIO's check of names does not know."""

    def __init__(self, name: str, **kwargs):
        super().__init__(name.replace("-", "_"), **kwargs)
        self._name = name


def register(
    corpus: manifest.Manifest,
    tokenizer: Tokenizer,
    config: ConfigDict,
    mixture: Mapping[str, float],
    components: Mapping[str, ConfigDict],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the tasks and mixtures that are defined now; `config` is config.rendering. See `data_tasks.register`."""
    global _defined
    rendering.check(config)
    sections = [config.to_dict(), mixture, {name: section.to_dict() for name, section in components.items()}]
    arguments = json.dumps([corpus.path(""), corpus.fingerprint, tokenizer.fingerprint, *sections])
    if arguments == _defined[0] and seqio.TaskRegistry.names() >= set(_defined[1]):
        return _defined[1:]

    classes = {name: entry.resource_class for name, entry in corpus.tasks.items()}
    rates = mixtures.rates(sizes.of_corpus(corpus, config), classes, mixture, components)
    features = {"targets": seqio.Feature(TokenizerVocabulary(tokenizer), add_eos=False, dtype=tf.int32)}
    tasks = [_task(name, entry, corpus, features, config) for name, entry in corpus.tasks.items()]

    # Nothing above changes the registry, so that a mistake leaves it as it was.
    for name in _defined[1]:
        seqio.TaskRegistry.remove(name)
    for name in _defined[2]:
        seqio.MixtureRegistry.remove(name)
    for task in tasks:
        seqio.TaskRegistry.add_provider(task.name, task)
    for name, rate in rates.items():
        seqio.MixtureRegistry.add(name, list(rate.items()))
    _defined = (arguments, tuple(task.name for task in tasks), tuple(rates))
    return _defined[1:]


def examples(
    name: str, split: str, seed: int | None = None, part: int = 0, num_parts: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Examples of a task, or of a part of its records, in order, or shuffled if there is a seed.

    They have `targets` (int32, BOS first and EOS last), `bytes` (of the text in UTF-8), and of a pair `direction`.
    These are what `get_dataset` gives, in half the time for short documents, as they leave TensorFlow in batches.
    """
    dataset = seqio.TaskRegistry.get(name).get_dataset(
        split=split,
        shuffle=seed is not None,
        seed=seed,
        shard_info=seqio.ShardInfo(part, num_parts) if num_parts > 1 else None,
        trim_output_features=False,
        try_in_mem_cache=False,
    )
    options = tf.data.Options()
    # Thousands of small pipelines are opened one after another, each by one of many workers.
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    for batch in dataset.ragged_batch(preprocessors.BATCH_DOCUMENTS).with_options(options):
        targets = batch.pop("targets")
        ids, ends = targets.values.numpy(), targets.row_splits.numpy().tolist()
        scalars = {feature: values.numpy() for feature, values in batch.items()}
        for i in range(len(ends) - 1):
            yield {"targets": ids[ends[i] : ends[i + 1]], **{name: values[i] for name, values in scalars.items()}}


def _task(name, entry, corpus, features, config) -> CorpusTask:
    around = rendering.frames(name, config)
    rendering.check_labels(name, around)
    render = []
    if len(around) > 1:
        pairs = dict(frames=around, pairs_per_document=config.pairs_per_document, direction=config.direction)
        render = [functools.partial(preprocessors.render_pairs, **pairs)]
    elif around[0].num_bytes:
        render = [functools.partial(preprocessors.render_texts, around=around[0])]
    return CorpusTask(
        name,
        source=ParquetSource(corpus, entry, PAIR_COLUMNS if len(around) > 1 else TEXT_COLUMNS),
        output_features=features,
        preprocessors=[*render, preprocessors.tokenize],
        shuffle_buffer_size=None,  # the source shuffles, before pairs are grouped
    )
