"""The vocabulary of Llama 3, out of the installed distribution `llama-models`, as a Hugging Face folder, for tests.

Its licence is not ours, so it is converted where it is used and never kept. The distribution is not imported: what it
needs is not installed.
"""

import ast
import base64
import importlib.metadata
import json
import pathlib
from typing import NamedTuple

import pytest
from tokenizers import processors
from transformers.convert_slow_tokenizer import TikTokenConverter

INSTALL = "pip install --no-deps llama-models==0.3.0"
PACKAGE = "llama_models/llama3"
FIRST_RESERVED = 2  # in Meta's list, names 0 and 1 of this form stand among the others


class Published(NamedTuple):
    """What Meta publishes: bytes -> id of each token, the names of the special ids after them, and how text is cut."""

    ranks: dict[bytes, int]
    special: list[str]
    pattern: str


def folder(tmp_path_factory) -> pathlib.Path:
    """The folder of this session, written for the first test that asks; skips the test if there is nothing to write."""
    made = tmp_path_factory.getbasetemp() / "llama3_vocabulary"
    if not (made / "tokenizer.json").exists():
        try:
            write(made)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the vocabulary of Llama 3 is not installed: {INSTALL}")
    return made


def published() -> Published:
    """The vocabulary as published. Raises PackageNotFoundError if it is not installed."""
    paths = {str(path): path.locate() for path in importlib.metadata.files("llama-models")}
    lines = paths[f"{PACKAGE}/tokenizer.model"].read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    source = ast.parse(paths[f"{PACKAGE}/tokenizer.py"].read_text())
    said = {
        target.id: node.value
        for node in ast.walk(source)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant | ast.List)
    }
    named = ast.literal_eval(said["special_tokens"])
    number = ast.literal_eval(said["num_reserved_special_tokens"])
    reserved = [f"<|reserved_special_token_{FIRST_RESERVED + i}|>" for i in range(number - len(named))]
    return Published(ranks, named + reserved, ast.literal_eval(said["pat_str"]))


def write(folder: pathlib.Path) -> None:
    """Writes `tokenizer.json`, which puts BOS before a text as the model's own does, and `tokenizer_config.json`.

    Raises PackageNotFoundError if there is nothing to convert.
    """
    ranks, special, pattern = published()
    converter = TikTokenConverter(pattern=pattern, extra_special_tokens=special)
    converter.load_tiktoken_bpe = lambda _: ranks  # tiktoken's own would leave a copy among its downloads
    tokenizer = converter.converted()
    bos, eos = special[:2]
    bos_id = tokenizer.token_to_id(bos)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, bos_id)])
    folder.mkdir(parents=True)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer.save(str(folder / "tokenizer.json"))
