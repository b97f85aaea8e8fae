"""The tokenizer of a folder, and what its files say: text to ids and back.

Owns loading (`tokenizer.model` of SentencePiece, or `tokenizer.json` of Hugging Face), and how the one is written as
the other. It does not train (`train_tokenizer`), and puts no BOS or EOS around a text: where documents begin and end
is known by `data_tasks`.

Ids are those of the text alone. What looks like a special token in a text is text, so no document can end itself. For a
tokenizer that is trained here `decode(encode(text)) == text` for every text but one that holds U+2581, which
SentencePiece uses for the space and gives back as a space.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import sentencepiece
import tokenizers
from etils import epath
from tokenizers import decoders, models, normalizers, processors

MODEL_FILE = "tokenizer.model"
JSON_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
FILES = (MODEL_FILE, JSON_FILE, SETTINGS_FILE, "special_tokens_map.json")  # what an export takes along

SPACE = "\u2581"


class Engine(Protocol):
    """What a tokenizer is made of."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, of which none is special."""


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back; can be pickled. `pad_id` is None where the tokenizer has none, as Llama 3's.

    `fingerprint` is the SHA-256 in hex of tokenizer.json, or of tokenizer.model where there is no other. `files` are
    the names in the folder that an export takes along.
    """

    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int | None
    fingerprint: str
    files: tuple[str, ...]
    engine: Engine = dataclasses.field(repr=False, compare=False)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without BOS and EOS."""
        return self.engine.encode([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS."""
        return self.engine.encode(list(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; BOS, EOS and padding have none. Bytes that are no UTF-8 become U+FFFD."""
        unwritten = {self.bos_id, self.eos_id, self.pad_id}
        return self.engine.decode([int(i) for i in ids if int(i) not in unwritten])


def load(folder: str) -> Tokenizer:
    """The tokenizer of a folder: of `tokenizer.model` where that is SentencePiece's, otherwise of `tokenizer.json`.

    Raises ValueError if there is none, if a file is damaged, or if the two are not of the same tokenizer.
    """
    paths = {name: epath.Path(folder) / name for name in FILES}
    contents = {name: path.read_bytes() for name, path in paths.items() if path.exists()}
    model, json_text = contents.get(MODEL_FILE), contents.get(JSON_FILE)
    if model is None and json_text is None:
        raise ValueError(
            f"there is no tokenizer in {str(folder)!r} (neither {JSON_FILE} nor {MODEL_FILE}): "
            "train one with emma_jax.train_tokenizer, or name a Hugging Face folder in config.tokenizer.folder"
        )
    rewritten = _parse_json(json_text, paths[JSON_FILE]) if json_text is not None else None
    described = {
        "fingerprint": hashlib.sha256(model if json_text is None else json_text).hexdigest(),
        "files": tuple(contents),
    }
    if model is not None and not _is_tiktoken(model):
        processor = _parse_model(model, paths[MODEL_FILE])
        if rewritten and rewritten.get_vocab_size() != processor.get_piece_size():
            raise ValueError(
                f"{MODEL_FILE} and {JSON_FILE} in {str(folder)!r} are of different tokenizers, with "
                f"{processor.get_piece_size()} and {rewritten.get_vocab_size()} pieces; "
                "remove the one that is not the model's"
            )
        return _of_processor(processor, **described)
    if rewritten is None:
        raise ValueError(f"{paths[MODEL_FILE]} is in the format of tiktoken; put the model's {JSON_FILE} beside it")
    return _of_json(rewritten, _special_names(paths, contents), folder, **described)


def copy_files(source, target) -> None:
    """Copies what `source` has of a tokenizer's files to the folder `target`, byte for byte."""
    target = epath.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (epath.Path(source) / name).exists():
            (target / name).write_bytes((epath.Path(source) / name).read_bytes())


def to_json(model: bytes) -> str:
    """`tokenizer.json` with the same ids as a SentencePiece BPE model with byte fallback, identity normalisation and no
    dummy prefix; the Hugging Face form adds BOS where special tokens are asked for, as Llama's does.

    SentencePiece joins any two neighbours whose union is a piece, the best piece first, the leftmost among equals;
    `tokenizers` only joins pairs that are listed. One pair per piece is enough: what a span becomes before it is joined
    to one piece depends on the span alone, since nothing was joined across its ends. So the pair is the last one joined
    in the piece by itself.

    Raises ValueError if the model is of another kind.
    """
    processor = _parse_model(model, MODEL_FILE)
    if processor.encode("\x01", out_type=str) != ["<0x01>"] or processor.decode(processor.encode(" \x01 ")) != " \x01 ":
        raise ValueError(f"{MODEL_FILE} has no byte fallback or changes spaces; it cannot be written as {JSON_FILE}")
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    # Neither control and byte pieces, nor what no text can become.
    made = [i for i, piece in enumerate(pieces) if processor.encode(piece.replace(SPACE, " ")) == [i]]
    # Scores fall in the order in which pieces were found; single characters come after all of them.
    rank = {pieces[i]: order for order, i in enumerate(sorted(made, key=processor.get_score, reverse=True))}
    merges = [merge for piece in rank if (merge := last_merge(piece, rank))]

    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    unknown = pieces[processor.unk_id()]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    bos = pieces[processor.bos_id()]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, processor.bos_id())]
    )
    return tokenizer.to_str()


def last_merge(piece: str, rank: Mapping[str, int]) -> tuple[str, str] | None:
    """The two parts that byte-pair encoding joins last to make `piece`; None for a character, or if it never makes it.

    `rank` of a piece is the lower the earlier it is made.

    >>> last_merge("aaa", {"aa": 0, "aaa": 1, "a": 2}), last_merge("abc", {"bc": 0, "abc": 1, "ab": 2})
    (('aa', 'a'), ('a', 'bc'))
    """
    parts, merge = list(piece), None
    while len(parts) > 1:
        ranks = [rank.get(left + right, len(rank)) for left, right in zip(parts, parts[1:], strict=False)]
        at = ranks.index(min(ranks))  # the leftmost of the best
        if ranks[at] == len(rank):
            return None
        merge = (parts[at], parts[at + 1])
        parts[at : at + 2] = ["".join(merge)]
    return merge


@dataclasses.dataclass(frozen=True)
class _SentencePiece:
    processor: sentencepiece.SentencePieceProcessor

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.processor.encode(texts)

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode(ids)


@dataclasses.dataclass(frozen=True)
class _HuggingFace:
    tokenizer: tokenizers.Tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        self.tokenizer.encode_special_tokens = True  # the names of special tokens are text; pickling forgets this
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def _of_processor(processor: sentencepiece.SentencePieceProcessor, **described) -> Tokenizer:
    if min(processor.bos_id(), processor.eos_id()) < 0:
        raise ValueError(f"{MODEL_FILE} has no BOS or no EOS, and documents need both")
    return Tokenizer(
        vocab_size=processor.get_piece_size(),
        bos_id=processor.bos_id(),
        eos_id=processor.eos_id(),
        pad_id=processor.pad_id() if processor.pad_id() >= 0 else None,
        engine=_SentencePiece(processor),
        **described,
    )


def _of_json(tokenizer: tokenizers.Tokenizer, special: Mapping[str, str], folder: str, **described) -> Tokenizer:
    ids = {role: tokenizer.token_to_id(name) for role, name in special.items()}
    for role in ("bos_token", "eos_token"):
        if ids.get(role) is None:
            raise ValueError(
                f"the tokenizer in {str(folder)!r} does not say what its {role} is; name one of its tokens "
                f"in {SETTINGS_FILE}"
            )
    return Tokenizer(
        vocab_size=max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,  # ids may have gaps
        bos_id=ids["bos_token"],
        eos_id=ids["eos_token"],
        pad_id=ids.get("pad_token"),
        engine=_HuggingFace(tokenizer),
        **described,
    )


def _special_names(paths: Mapping[str, epath.Path], contents: Mapping[str, bytes]) -> dict[str, str]:
    """The tokens named as bos_token, eos_token and pad_token in the files that may name them."""
    names = {}
    for file in ("special_tokens_map.json", SETTINGS_FILE):
        try:
            settings = json.loads(contents.get(file, b"{}"))
        except ValueError as error:
            raise ValueError(f"{paths[file]} is damaged ({error}); copy it from the model again") from error
        for role in ("bos_token", "eos_token", "pad_token"):
            token = settings.get(role)
            if token:
                names[role] = token["content"] if isinstance(token, dict) else token
    return names


def _parse_model(content: bytes, path) -> sentencepiece.SentencePieceProcessor:
    try:
        if content:  # nothing at all is taken for a model, and fails later
            return sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError:
        pass  # its message says nothing about the file
    raise ValueError(f"{path} is damaged or cut short ({len(content)} bytes); copy or train it again")


def _parse_json(content: bytes, path) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises the base class only
        raise ValueError(f"{path} is damaged or cut short ({error}); copy or train it again") from error
    tokenizer.no_truncation()  # some folders say how their model was evaluated
    tokenizer.no_padding()
    return tokenizer


def _is_tiktoken(model: bytes) -> bool:
    """Whether a tokenizer.model is a list of base64 and rank, as Meta publishes Llama 3's, and not SentencePiece's."""
    return re.match(rb"[A-Za-z0-9+/]+=* \d+\n", model) is not None
