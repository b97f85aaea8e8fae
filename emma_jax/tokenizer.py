"""The tokenizer of a folder, and what its files say: text to ids and back.

Owns loading (`tokenizer.model` of SentencePiece, or `tokenizer.json` of Hugging Face) and what both can do. It does not
train (`train_tokenizer`) nor write the one as the other (`tokenizer_json`), and puts no BOS or EOS around a text: where
documents begin and end is known by `data_tasks`.

Ids are those of the text alone. What looks like a special token in a text is text, so no document can end itself. For a
tokenizer that is trained here `decode(encode(text)) == text` for every text but one that holds U+2581, which
SentencePiece uses for the space and gives back as a space.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import sentencepiece
import tokenizers
from etils import epath

MODEL_FILE = "tokenizer.model"
JSON_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
CARD_FILE = "README.md"  # of the model that the tokenizer came with
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md")
FILES = (  # what an export takes along
    MODEL_FILE, JSON_FILE, SETTINGS_FILE, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "generation_config.json", CARD_FILE, *LICENCE_FILES,
)  # fmt: skip

SPACE = "\u2581"
BYTE_LEVEL_SPACE = "\u0120"

Span = tuple[int, int]


class Engine(Protocol):
    """What a tokenizer is made of."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids of a text, and the characters of which each holds at least one byte."""

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
        """Ids of a text, without BOS and EOS. Raises ValueError if it has a lone surrogate."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS, on all cores. Raises ValueError if one has a lone surrogate."""
        texts = list(texts)
        with _naming_surrogates(texts):
            return self.engine.encode(texts)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids of a text as `encode` gives them, and the span in it, start and end in characters, of each.

        A span is the characters of which the token holds at least one byte, so tokens that share the bytes of a
        character share its span. What a normaliser makes of a character counts as that character; what it drops, or
        joins to the characters before, goes with the token of those; a space that it puts before the text is of no
        character, and its span is empty.

        >>> single_bytes = tokenizers.models.BPE({"a": 0, "<0xC3>": 1, "<0xA9>": 2}, [], byte_fallback=True)
        >>> engine = _HuggingFace(tokenizers.Tokenizer(single_bytes))
        >>> Tokenizer(3, 0, 0, None, "", (), engine).encode_with_offsets("aéa")
        ([0, 1, 2, 0], [(0, 1), (1, 2), (1, 2), (2, 3)])

        Raises ValueError if the text has a lone surrogate.
        """
        with _naming_surrogates([text]):
            return self.engine.encode_with_offsets(text)

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


@dataclasses.dataclass(frozen=True)
class _SentencePiece:
    processor: sentencepiece.SentencePieceProcessor

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        if len(texts) == 1:  # each batch starts threads of its own, which takes longer than most texts
            return [self.processor.encode(texts[0])]
        return self.processor.encode(texts, num_threads=-1)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        # Of the tokens that share a character the library gives it to the last one only; so here the tokens are laid
        # along the bytes of the normalised text, of which it says what they come from.
        ids, pieces = self.processor.encode(text), self.processor.encode(text, out_type=str)
        normalised, origins = self.processor.normalize(text, with_offsets=True)
        sources = [(origin, min(origin + 1, len(text))) for origin in origins]
        if self.processor.normalize("a").startswith(SPACE):
            sources[0] = (origins[0], origins[0])
        sources_of_bytes = [
            source for character, source in zip(normalised, sources, strict=False) for _ in character.encode()
        ]
        spans, at = [], 0
        for i, piece in zip(ids, pieces, strict=True):
            first = at
            at += 1 if self.processor.is_byte(i) else len(piece.encode())
            spans.append((sources_of_bytes[first][0], sources_of_bytes[at - 1][1]))
        assert at == len(sources_of_bytes)
        return ids, _without_gaps(spans, len(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode(ids)


@dataclasses.dataclass(frozen=True)
class _HuggingFace:
    tokenizer: tokenizers.Tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        self.tokenizer.encode_special_tokens = True  # the names of special tokens are text; pickling forgets this
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        self.tokenizer.encode_special_tokens = True
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        spans = encoding.offsets
        # A space that is put before the text is said to be of the first character, as is the token after it.
        if encoding.tokens[:1] in ([SPACE], [BYTE_LEVEL_SPACE]) and spans[1:] and spans[0][0] == spans[1][0]:
            spans[0] = (spans[0][0], spans[0][0])
        return encoding.ids, _without_gaps(spans, len(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def _without_gaps(spans: Sequence[Span], length: int) -> list[Span]:
    """Spans that reach to the next character that is in any of them, or to the end of the text; empty ones stay so."""
    held = bytearray(length + 1)
    for start, end in spans:
        held[start:end] = b"\1" * (end - start)
    held[length] = 1
    return [(start, held.index(1, end) if start < end else end) for start, end in spans]


@contextlib.contextmanager
def _naming_surrogates(texts: Sequence[str]) -> Iterator[None]:
    """Says where the lone surrogate is that made a library refuse; only then, since looking takes time."""
    try:
        yield
    except (TypeError, RuntimeError):  # what they raise says neither what nor where
        for number, text in enumerate(texts):
            if found := re.search("[\ud800-\udfff]", text):
                name = f"text {number} of the batch" if len(texts) > 1 else "the text"
                fault = f"a lone surrogate, U+{ord(found[0]):04X}, at position {found.start()} (counted from 0)"
                raise ValueError(
                    f"{name} has {fault}, which UTF-8 cannot hold; "
                    "mend it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
                ) from None
        raise


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
    tokenizer.post_processor = None  # adds what is never asked for, and can cut spaces off the offsets
    return tokenizer


def _is_tiktoken(model: bytes) -> bool:
    """Whether a tokenizer.model is a list of base64 and rank, as Meta publishes Llama 3's, and not SentencePiece's."""
    return re.match(rb"[A-Za-z0-9+/]+=* \d+\n", model) is not None
