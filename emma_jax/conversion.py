"""Models from and to Hugging Face folders: what is opened and checked, and when a result is complete.

`conversion_stream` carries the tensors that `conversion_table` maps, `conversion_config` maps the configs and
`model_card` tells what an export is; files are `safetensors_folder`'s and `checkpoint`'s.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable

import jax
import ml_dtypes
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from emma_jax import (
    conversion_config,
    conversion_stream,
    conversion_table,
    model,
    model_card,
    program,
    safetensors_folder,
    sharding,
    tokenizer,
)
from emma_jax.checkpoint import Checkpoints, Metadata
from emma_jax.responses import digest
from emma_jax.safetensors_folder import Reader
from emma_jax.tokenizer import Tokenizer

SAMPLE_BYTES = 1 << 16  # read of a file in three places, to tell it from another of its name
NUMPY_DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model ready to score or generate: config.model, its parameters on a mesh, its tokenizer or None, its name."""

    config: ConfigDict
    params: model.Params
    tokenizer: Tokenizer | None
    name: str


def load_model(folder: str, mesh: Mesh) -> LoadedModel:
    """The model in `folder` on `mesh`: a workdir (its newest step, or FOLDER@STEP) or a Hugging Face folder.

    Raises ValueError if it is neither, or holds no complete model.
    """
    return _load(folder, lambda config: program.abstract_params(config, mesh))


def load_for_inference(folder: str) -> LoadedModel:
    """`load_model` on all devices, in the dtype in which the model computes, which its layers would round to anyway."""

    def abstract(config):
        params = program.abstract_params(config, sharding.inference_mesh(config))
        dtype = np.dtype(NUMPY_DTYPES[config.compute_dtype])
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding), params)

    return _load(folder, abstract)


def _load(folder: str, abstract: Callable[[ConfigDict], model.Params]) -> LoadedModel:
    name = os.path.basename(os.path.abspath(folder))
    if is_workdir(folder):
        workdir, config, checkpoints, step = open_workdir(folder)
        params = checkpoints.restore_params(step, abstract(config))
        return LoadedModel(config, params, load_tokenizer(workdir / "tokenizer", config), name)
    if not (epath.Path(folder) / "config.json").exists():
        raise ValueError(f"{folder} holds no model: neither a folder 'checkpoints' nor a file config.json")
    config, reader = open_hf(folder)
    params = conversion_stream.read_params(reader, config, abstract(config))
    return LoadedModel(config, params, load_tokenizer(folder, config), name)


def end_ids(folder: str) -> tuple[int, ...]:
    """The ids that end a text according to the generation_config.json of `folder`, a workdir or a Hugging Face folder.

    Models that follow instructions have several; where there is no such file, there is none.
    """
    ids = _generation_config(tokenizer_folder(folder)).get("eos_token_id")
    return () if ids is None else tuple(ids) if isinstance(ids, list) else (ids,)


def tokenizer_folder(folder: str) -> epath.Path:
    """Where the tokenizer of a model is: in a workdir, or beside the weights."""
    return epath.Path(split_step(folder)[0]) / "tokenizer" if is_workdir(folder) else epath.Path(folder)


def files_fingerprint(folder: str) -> str:
    """A hash of what a model's files are called, how large they are, when they were written and some of their bytes.

    Other weights in a folder of the same name have another, even where their times are the same.
    """
    root, step = split_step(folder)
    root = epath.Path(root)
    files = root.glob(f"checkpoints/{'*' if step is None else step}/*") if is_workdir(folder) else root.iterdir()
    stats = [(file, file.stat()) for file in files]
    return digest(
        sorted(
            (str(file.relative_to(root)), stat.length, stat.mtime, _sample(file, stat.length))
            for file, stat in stats
            if not stat.is_directory
        )
    )


def _sample(file: epath.Path, length: int) -> str:
    """A hash of bytes at the beginning, in the middle and at the end of a file."""
    sampled = hashlib.sha256()
    with file.open("rb") as content:
        for start in (0, length // 2, max(0, length - SAMPLE_BYTES)):
            content.seek(start)
            sampled.update(content.read(SAMPLE_BYTES))
    return sampled.hexdigest()


def import_hf(source: str, workdir: str) -> None:
    """Writes the Hugging Face folder `source` as step 0 of the new `workdir`, with its tokenizer and companions.

    Every array is stored in the dtype it has. Everything is checked before anything is written. Raises ValueError for a
    model that ours is not, a missing, damaged, misshapen or infinite tensor, and a workdir that holds a checkpoint.
    """
    config, reader = open_hf(source)
    vocabulary = load_tokenizer(source, config)
    if is_workdir(workdir) and Checkpoints(workdir).latest_step() is not None:
        raise ValueError(f"{workdir} holds checkpoints already; name a new workdir")
    config_json = safetensors_folder.read_json(epath.Path(source) / "config.json")
    conversion_stream.check_finite(reader)
    tokenizer_folder = epath.Path(workdir) / "tokenizer"
    if jax.process_index() == 0:
        tokenizer.copy_files(source, tokenizer_folder)
        generation = tokenizer_folder / conversion_config.GENERATION_FILE
        if not generation.exists():
            safetensors_folder.write_json(generation, conversion_config.generation_config(config_json))
    checkpoints = Checkpoints(workdir, ConfigDict(dict(save_every_steps=1, keep=1)))
    metadata = Metadata(
        {"model": config.to_dict()},
        tokenizer=vocabulary.fingerprint if vocabulary else "",
        base=model_card.base_name(source, config_json),
    )
    with conversion_stream.deferred_params(reader, config) as params:
        checkpoints.save_layers(0, params, metadata)
        checkpoints.close()
    logging.info("%s is step 0 of %s", source, workdir)


def export_hf(source: str, target: str, dtype: str) -> None:
    """Writes the workdir `source` (its newest step, or WORKDIR@STEP) as the new Hugging Face folder `target`.

    Weights become `dtype`, "float32" or "bfloat16", rounded to nearest, ties to even. Every tensor is read back from
    the written files and compared with the checkpoint's before the folder takes its name. Raises ValueError if
    `target` is not empty or `source` holds no such checkpoint, OSError if a tensor cannot be written or reads back
    otherwise.
    """
    if dtype not in NUMPY_DTYPES:
        raise ValueError(f"--dtype is {dtype!r}; expected one of {', '.join(NUMPY_DTYPES)}")
    safetensors_folder.check_new(target)
    workdir, config, checkpoints, step = open_workdir(source)
    vocabulary = load_tokenizer(workdir / "tokenizer", config)
    metadata = checkpoints.metadata(step)  # on all hosts: Orbax waits for them
    folder, is_first = safetensors_folder.unfinished(target), jax.process_index() == 0
    safetensors_folder.check_space(target, conversion_table.num_bytes(config, NUMPY_DTYPES[dtype]))
    logging.info("exporting step %d of %s as %s", step, workdir, dtype)
    if is_first:
        safetensors_folder.begin(target)
    conversion_stream.wait_for_all("begun")
    with safetensors_folder.removed_on_failure(folder if is_first else None):
        conversion_stream.export_params(checkpoints, step, config, folder, NUMPY_DTYPES[dtype])
        conversion_stream.wait_for_all("written")
        if is_first:
            tokenizer.copy_files(workdir / "tokenizer", folder)
            ids = conversion_config.token_ids(_generation_config(folder), vocabulary)
            if not (folder / conversion_config.GENERATION_FILE).exists():
                safetensors_folder.write_json(
                    folder / conversion_config.GENERATION_FILE, conversion_config.generation_config(ids)
                )
            model_card.write(folder, workdir, step, metadata, dtype)
            # Last: without it nobody takes the folder for a model.
            safetensors_folder.write_json(folder / "config.json", conversion_config.from_model(config, dtype, ids))
            safetensors_folder.finish(target)
    conversion_stream.wait_for_all("finished")
    logging.info("%s is complete", target)


def split_step(source: str) -> tuple[str, int | None]:
    """(workdir, step) of WORKDIR or WORKDIR@STEP.

    >>> split_step("runs/bilingual@12000"), split_step("runs/a@b")
    (('runs/bilingual', 12000), ('runs/a@b', None))
    """
    workdir, _, step = source.rpartition("@")
    return (workdir, int(step)) if workdir and step.isdecimal() else (source, None)


def is_workdir(folder: str) -> bool:
    """Whether `folder`, or that of FOLDER@STEP, has checkpoints."""
    return (epath.Path(split_step(folder)[0]) / "checkpoints").exists()


def open_hf(folder: str) -> tuple[ConfigDict, Reader]:
    """(config.model, tensors) of a Hugging Face folder.

    Raises ValueError if it holds no model that ours can be, or other tensors than its config says.
    """
    if is_workdir(folder):
        raise ValueError(f"{folder} is a workdir already, with a folder 'checkpoints'; name a Hugging Face folder")
    config = ConfigDict(conversion_config.to_model(safetensors_folder.read_json(epath.Path(folder) / "config.json")))
    reader = Reader(folder)
    conversion_table.check_tensors(reader, config)
    return config, reader


def open_workdir(source: str) -> tuple[epath.Path, ConfigDict, Checkpoints, int]:
    """(workdir, config.model, checkpoints, step) of WORKDIR, with its newest step, or WORKDIR@STEP.

    Raises ValueError if there is no such checkpoint, or its tokenizer is not the one beside it.
    """
    workdir, step = split_step(source)
    checkpoints = Checkpoints(workdir)
    latest = checkpoints.latest_step()
    if latest is None:
        raise ValueError(f"{workdir} holds no complete checkpoint")
    if step is None:
        step = latest
    elif not (checkpoints.folder / str(step)).exists():
        raise ValueError(f"{workdir} has no checkpoint of step {step}; its newest is {latest}")
    metadata = checkpoints.metadata(step)
    folder = epath.Path(workdir) / "tokenizer"
    if (
        metadata.tokenizer
        and any(folder.glob("tokenizer.*"))
        and tokenizer.load(folder).fingerprint != metadata.tokenizer
    ):
        raise ValueError(f"{folder} is not the tokenizer that step {step} was trained with; put that one back")
    return epath.Path(workdir), ConfigDict(metadata.config["model"]), checkpoints, step


def load_tokenizer(folder, config) -> Tokenizer | None:
    """The tokenizer of `folder`, or None, with a warning, if it has none; raises ValueError if it is too large."""
    if not any((epath.Path(folder) / name).exists() for name in (tokenizer.MODEL_FILE, tokenizer.JSON_FILE)):
        logging.warning("%s holds no tokenizer: the model goes on without one", folder)
        return None
    vocabulary = tokenizer.load(folder)
    if vocabulary.vocab_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer in {folder} has {vocabulary.vocab_size} ids, the model {config.vocab_size}: "
            "it is the tokenizer of another model"
        )
    return vocabulary


def _generation_config(folder: epath.Path) -> dict:
    path = folder / conversion_config.GENERATION_FILE
    return safetensors_folder.read_json(path) if path.exists() else {}
