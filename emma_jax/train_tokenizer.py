"""`python -m emma_jax.train_tokenizer --config=FILE.py`: a SentencePiece tokenizer for all languages of a corpus.

Owns which text it is trained on, the settings, and the files in `config.tokenizer.folder`: `tokenizer.model`, the same
as `tokenizer.json` and `tokenizer_config.json` for Hugging Face, and `training.json`, which says what it was trained
on. How the two formats relate is the business of `tokenizer_json`. A continued model keeps its base's tokenizer and
needs none of this.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import sentencepiece
import tokenizers
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from emma_jax import command_line, manifest, tokenizer, tokenizer_json

VERSION = 1
RECORD_FILE = "training.json"
SPLIT = "train"
CHECKED_LINES = 10_000
BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"


class Stream(NamedTuple):
    """Text of one language: a column of one entry of the manifest."""

    entry: manifest.Entry
    column: str


def main(config: ConfigDict) -> None:
    """Trains the tokenizer of a config, unless its folder already holds it.

    Raises ValueError if the folder holds a tokenizer of other settings or of another corpus, if there is no text, or if
    so many pieces cannot be made of it.
    """
    section = config.tokenizer
    folder = epath.Path(section.folder)
    corpus = manifest.load(config.corpus.folder)
    record = {
        "version": VERSION,
        "corpus": corpus.fingerprint,
        "vocab_size": section.vocab_size,
        "max_sentences": section.max_sentences,
        "character_coverage": section.character_coverage,
    }
    if _is_there(folder, record):
        logging.info("the tokenizer in %s is there already; nothing to do", folder)
        return
    lines = list(sentences(corpus, section.max_sentences))
    num_bytes = sum(len(line.encode()) for line in lines)
    logging.info("training %d pieces on %d lines, %.1f MB", section.vocab_size, len(lines), num_bytes / 1e6)
    model = train(lines, section.vocab_size, section.character_coverage)
    assert _same_ids(model, tokenizer_json.to_json(model), lines[:: len(lines) // CHECKED_LINES + 1])
    write(folder, model, record)
    trained = tokenizer.load(section.folder)
    num_tokens = sum(map(len, trained.encode_batch(lines)))
    logging.info("wrote the tokenizer to %s: %.2f bytes of this text per token", folder, num_bytes / num_tokens)


def train(lines: list[str], vocab_size: int, character_coverage: float) -> bytes:
    """A SentencePiece BPE model of exactly `vocab_size` pieces: the same bytes for the same lines.

    Nothing in a text is lost: characters that are too rare to be pieces are their bytes, as is the newline; spaces stay
    as they are. Each digit is a piece.

    Raises ValueError if there is no text, or too little or too varied text for `vocab_size`.
    """
    if not any(line.strip() for line in lines):
        raise ValueError("the corpus has no text to train a tokenizer on; look at the counts in its manifest.json")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=character_coverage,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            shuffle_input_sentence=False,
            max_sentence_length=2**30,  # longer ones would be left out
            num_threads=1,  # is written into the model; training takes as long with more
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            unk_piece=UNKNOWN,
            bos_piece=BOS,
            eos_piece=EOS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(_refusal(str(error), vocab_size)) from error
    return model.getvalue()


def sentences(corpus: manifest.Manifest, max_sentences: int) -> Iterator[str]:
    """Lines of the training texts of every language, from at most `max_sentences` of them, in the order of the corpus.

    Languages share the number evenly; what a small one leaves, larger ones take. Of a language, evenly spaced texts are
    taken. A language that stands only in pairs gives its side of them.
    """
    streams = _streams(corpus)
    rows = {code: sum(stream.entry.splits[SPLIT].rows for stream in parts) for code, parts in streams.items()}
    quotas = even_quotas(rows, max_sentences)
    for code, parts in streams.items():
        seen = 0
        for stream in parts:
            for batch in corpus.read(stream.entry, SPLIT):
                places = np.arange(seen, seen + batch.num_rows) * quotas[code] // max(rows[code], 1)
                after = np.arange(seen + 1, seen + batch.num_rows + 1) * quotas[code] // max(rows[code], 1)
                for text in batch.column(stream.column).filter(after > places).to_pylist():
                    yield from text.split("\n")  # a piece must never reach over a line
                seen += batch.num_rows


def even_quotas(rows: Mapping[str, int], total: int) -> dict[str, int]:
    """How many rows to take of each: all of the small ones, and as many of each larger one, `total` at most.

    >>> even_quotas({"eng_Latn": 1000, "swh_Latn": 30, "quy_Latn": 4}, total=104)
    {'eng_Latn': 70, 'swh_Latn': 30, 'quy_Latn': 4}
    """
    quotas, left = {}, total
    for waiting, code in zip(range(len(rows), 0, -1), sorted(rows, key=lambda code: (rows[code], code)), strict=True):
        quotas[code] = min(rows[code], left // waiting)
        left -= quotas[code]
    return {code: quotas[code] for code in rows}


def _streams(corpus: manifest.Manifest) -> dict[str, list[Stream]]:
    streams = {
        code: [Stream(entry, "text")]
        for code, entry in corpus.languages.items()
        if SPLIT in entry.splits and entry.splits[SPLIT].rows
    }
    alone = set(streams)
    for pair, entry in corpus.pairs.items():
        for code, column in zip(pair.split("-"), ("src_text", "tgt_text"), strict=True):
            if code not in alone and SPLIT in entry.splits:
                streams.setdefault(code, []).append(Stream(entry, column))
    return dict(sorted(streams.items()))


def _refusal(message: str, vocab_size: int) -> str:
    """What the user can do about SentencePiece's refusal, whose own words name flags that are not ours."""
    if most := re.search(r"Please set it to a value <= (\d+)", message):
        limit = f"has enough text for {most[1]} pieces at most"
    elif least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        limit = f"needs {least[1]} pieces for its characters alone"
    else:
        return f"SentencePiece cannot train a tokenizer on this corpus: {message}"
    return f"config.tokenizer.vocab_size is {vocab_size}, but the corpus {limit}"


def _is_there(folder: epath.Path, record: Mapping) -> bool:
    """Whether the folder holds a finished tokenizer: the one that `record` describes, or a model's own.

    Raises ValueError if it was trained here otherwise.
    """
    names = (tokenizer.JSON_FILE, tokenizer.MODEL_FILE)
    if not any((folder / name).exists() for name in names):
        return False
    if not (folder / RECORD_FILE).exists():
        logging.info("the tokenizer in %s was not trained here", folder)
        return True
    way_out = "name another folder in config.tokenizer.folder, or remove this one"
    try:
        trained = json.loads((folder / RECORD_FILE).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / RECORD_FILE} is damaged ({error}); {way_out}") from error
    for key, value in record.items():
        if trained.get(key) != value:
            found = f"{key} {trained.get(key)!r}, and the config says {value!r}"
            raise ValueError(f"the tokenizer in {folder} was trained with {found}; {way_out}")
    return (folder / tokenizer.JSON_FILE).exists()  # written last


def _same_ids(model: bytes, rewritten: str, lines: list[str]) -> bool:
    ours = sentencepiece.SentencePieceProcessor(model_proto=model).encode(lines)
    theirs = tokenizers.Tokenizer.from_str(rewritten).encode_batch(lines, add_special_tokens=False)
    return ours == [encoding.ids for encoding in theirs]


def write(folder: epath.Path, model: bytes, record: Mapping) -> None:
    """Writes all files, each whole or not at all; tokenizer.json comes last and stands for a finished training."""
    settings = {
        # Not the class of Llama: that one builds a pipeline of its own, which puts a space before the text.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
    }
    contents = {
        RECORD_FILE: _json_bytes(record),
        tokenizer.MODEL_FILE: model,
        tokenizer.SETTINGS_FILE: _json_bytes(settings),
        tokenizer.JSON_FILE: tokenizer_json.to_json(model).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        temporary = folder / f"{name}.tmp"
        temporary.write_bytes(content)
        temporary.replace(folder / name)


def _json_bytes(content: Mapping) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


if __name__ == "__main__":
    command_line.run(main)
