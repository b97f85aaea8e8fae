"""Reader of datasets of tensorflow-datasets, by name ("wmt14_translate/de-en:1.0.0") or by their folder.

The dataset lies prepared in TFDS_DATA_DIR, or where that is not set in the default of tensorflow-datasets; nothing is
downloaded, and no code of a dataset runs. A Translation feature gives a pair for each two of its languages; else the
feature `text` gives documents, of the language in a feature `lang` or `language`, or that of the source. All splits are
read.
"""

import functools
import itertools
import os
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from emma_jax import command_line
from emma_jax.corpus import source as source_lib
from emma_jax.corpus import streams
from emma_jax.corpus.readers import archive
from emma_jax.corpus.readers.sides import batch_of_lines
from emma_jax.corpus.source import MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_RECORD_BYTES, BadFile
from emma_jax.corpus.statistics import KEPT, READ, Report

LANGUAGE_FEATURES = ("lang", "language")
OF_THE_GRAPH = r"\{\{.*?\}\}\s*| \[Op:.*"  # what TensorFlow's messages have around the reason


def parts(source: source_lib.Source) -> list[source_lib.Part]:
    """A part for each file (shard) of each split.

    Raises ValueError if the dataset is not prepared, or has neither a translation nor text of a known language.
    """
    builder = _open(source)
    translation, languages = _translation(builder.info.features)
    if not languages:
        languages = [source.languages] if source.languages else []
        text, lang = _text_features(source, builder.info.features)
        if not text:
            raise ValueError(
                f"source {source.name!r} has neither a translation nor a text of its own among its features "
                f"{sorted(builder.info.features)}; say which one the text is: columns='text=NAME'"
            )
        if not lang and not source.languages and source.kind == "monolingual":
            raise ValueError(f"source {source.name!r} does not say its language; name it: languages='de'")
    is_collection = source.kind != "monolingual" and translation is None
    return [
        source_lib.Part(
            source=source,
            name=f"{split}/{index}",
            files=(source_lib.File(f"{builder.info.full_name}/{path.name}", os.fspath(path)),),
            languages=archive.codes_of(languages),
            collection=f"{source.kind}.{source.name}" if is_collection else "",
        )
        for split, info in builder.info.splits.items()
        for index, path in enumerate(map(epath.Path, info.filepaths))
    ]


def read(part: source_lib.Part, report: Report) -> Iterator[pa.RecordBatch]:
    """Batches of PAIRS or DOCUMENTS."""
    yield from source_lib.each_file(part, report, functools.partial(_read_shard, part, report))


def _open(source: source_lib.Source):
    """The dataset's builder, from its files."""
    command_line.require_extra("data", "tensorflow_datasets")
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming, read_only_builder

    if (epath.Path(source.path) / "dataset_info.json").exists():
        return tfds.builder_from_directory(source.path)
    data_dir = os.environ.get("TFDS_DATA_DIR") or None
    try:
        name, keywords = naming.parse_builder_name_kwargs(source.path, data_dir=data_dir)
        return read_only_builder.builder_from_files(str(name), **keywords)
    except ValueError as error:
        raise ValueError(
            f"source {source.name!r}: dataset {source.path!r} is not prepared in "
            f"{data_dir or 'the default folder of tensorflow-datasets'}; make it there (tfds build, or "
            "download_and_prepare of its builder), or name another folder by TFDS_DATA_DIR"
        ) from error


def _translation(features) -> tuple[str | None, list[str]]:
    """Name of the feature that is a translation ("" if all features are one, None if none is), and its languages."""
    import tensorflow_datasets as tfds

    for name, feature in (("", features), *features.items()):
        if isinstance(feature, tfds.features.Translation):
            return name, sorted(feature)
    return None, []


def _text_features(source: source_lib.Source, features) -> tuple[str, str]:
    """Names of the features of text and language; "" where there is none."""
    strings = [name for name, feature in features.items() if feature.shape == () and feature.dtype == np.str_]
    text, lang = (source.renamed.get(name) for name in ("text", "lang"))
    known = [name for name in (lang, *LANGUAGE_FEATURES) if name in strings]
    text = text or "text"
    return text if text in strings else "", known[0] if known else ""


def _read_shard(part: source_lib.Part, report: Report, _: source_lib.File) -> Iterator[pa.RecordBatch]:
    builder = _open(part.source)
    translation, languages = _translation(builder.info.features)
    text, lang = ("", "") if languages else _text_features(part.source, builder.info.features)
    needed = [name for name in (translation, text, lang) if name]
    for examples in _examples(builder, part, needed):
        if languages:
            sides = examples[translation] if translation else examples
            for pair in itertools.combinations(languages, 2):
                yield batch_of_lines(*(_bounded(sides[language]) for language in pair), pair, report)
        else:
            yield _documents(examples[text], examples[lang] if lang else None, part.source, report)


def _documents(texts, languages, source: source_lib.Source, report: Report) -> pa.RecordBatch:
    found = _bounded(texts)
    text = streams.as_text(found)
    lang = pa.repeat(source.languages, len(text)) if languages is None else streams.as_text(list(languages))
    too_large = found.count(None)
    report.count(READ, "too_large", too_large)
    report.count(READ, "undecodable", text.null_count - too_large)
    batch = pa.record_batch([text, lang.fill_null("")], schema=source_lib.DOCUMENTS)
    batch = batch.filter(pc.is_valid(text))
    kept = batch.filter(pc.not_equal(pc.utf8_trim_whitespace(batch["text"]), ""))
    report.count(READ, "empty_text", len(batch) - len(kept))
    report.count(READ, KEPT, len(kept))
    return kept


def _bounded(texts) -> list[bytes | None]:
    return [text if len(text) <= MAX_RECORD_BYTES else None for text in texts]


def _examples(builder, part: source_lib.Part, needed: list[str]) -> Iterator[dict]:
    """Batches of a shard's examples, feature -> values; raises BadFile if it is damaged, after what stood before."""
    import tensorflow as tf

    split, _, shard = part.name.rpartition("/")
    info = builder.info.splits[split]
    rows = int(np.clip(MAX_BATCH_BYTES * info.num_examples // (info.num_bytes + 1) // 4, 1, MAX_BATCH_ROWS))
    num_read, damage = 0, ""
    for size in (rows, 1):  # a batch is lost as a whole: up to the damage, one by one
        try:
            for examples in _batches(builder, f"{split}[{shard}shard]", needed, num_read, size):
                yield examples
                num_read += len(tf.nest.flatten(examples)[0])
            return
        except (tf.errors.OpError, RuntimeError) as error:
            damage = re.sub(OF_THE_GRAPH, "", str(getattr(error, "message", error))).splitlines()[0]
    raise BadFile(f"is damaged: {damage.replace(part.files[0].path, part.files[0].name)[:200]}")


def _batches(builder, split: str, needed: list[str], start: int, size: int) -> Iterator[dict]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        records = builder.as_data_source(split)
        for first in range(start, len(records), size):
            found = records.__getitems__(list(range(first, min(first + size, len(records)))))
            found = [{name: example[name] for name in needed} for example in found] if needed else found
            yield tf.nest.map_structure(lambda *values: list(values), *found)
        return
    # tensorflow-datasets would keep small datasets in memory, and read ahead of what is asked for.
    config = tfds.ReadConfig(try_autocache=False, skip_prefetch=True)
    decoders = tfds.decode.PartialDecoding(dict.fromkeys(needed, True)) if needed else None
    dataset = builder.as_dataset(split, decoders=decoders, read_config=config)
    yield from tfds.as_numpy(dataset.skip(start).batch(size))
