"""A million characters in all scripts go through each tokenizer as through its reference, and come back.

What does not come back, and nothing else: U+2581 from SentencePiece, which is its sign for the space. A foreign model
with a normaliser changes a text once: what it gives back, it gives back again. There are two exceptions to that: a text
with an unknown character, where a model has no bytes to fall back on, and a control character between two characters
that make one, which the model drops the first time and joins the second.
"""

import io
import json
import re

import llama3_vocabulary
import many_scripts
import numpy as np
import pytest
import regex
import sentencepiece
import tensorflow as tf
import tiktoken
import transformers
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from data_tasks.vocabulary import TokenizerVocabulary
from emma_jax import tokenizer, train_tokenizer

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
FOREIGN = {
    "llama_2": dict(
        model_type="bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    ),
    "mt5": dict(model_type="unigram", byte_fallback=True),  # nmt_nfkc is the library's own choice
    "no_bytes": dict(model_type="bpe"),
}  # fmt: skip


@pytest.fixture(scope="module")
def texts():
    return many_scripts.documents()


@pytest.fixture(scope="module")
def lines(texts):
    """What the SentencePiece models are trained on: a part of the translations."""
    return [line for text in texts[:3000:4] for line in text.split("\n")]


@pytest.fixture(scope="module")
def llama3(tmp_path_factory):
    return llama3_vocabulary.folder(tmp_path_factory)


@pytest.fixture(scope="module")
def own(lines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    train_tokenizer.write(folder, train_tokenizer.train(lines, 8000, 0.999), {})
    return folder


@pytest.fixture(scope="module")
def own_json(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own_json")
    for name in (tokenizer.JSON_FILE, tokenizer.SETTINGS_FILE):
        (folder / name).write_bytes((own / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def foreign(lines, tmp_path_factory):
    """A function of a name in FOREIGN: the folder of a model that is trained as others train theirs."""
    made = {}

    def make(name: str):
        if name not in made:
            model, made[name] = io.BytesIO(), tmp_path_factory.mktemp(name)
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=model, vocab_size=8000, character_coverage=0.999,
                minloglevel=2, **FOREIGN[name],
            )  # fmt: skip
            (made[name] / "tokenizer.model").write_bytes(model.getvalue())
            (made[name] / "tokenizer_config.json").write_text(json.dumps(NAMES | {"tokenizer_class": "LlamaTokenizer"}))
        return made[name]

    return make


def test_the_text_is_long_and_of_many_scripts(texts):
    joined = "".join(texts)
    assert len(joined) >= 1_000_000
    assert sum(bool(regex.search(rf"\p{{Script={script}}}", joined)) for script in many_scripts.SCRIPTS) >= 50
    assert set(many_scripts.CONTROLS) >= {chr(i) for i in (*range(0x20), *range(0x7F, 0xA0))}
    assert set(joined) >= {*many_scripts.CONTROLS, *many_scripts.EMOJI}
    for sequence in (r"\p{Emoji_Modifier_Base}\p{Emoji_Modifier}\u200d\p{Emoji}", r"\p{RI}{2}", r"7\ufe0f\u20e3"):
        assert len(regex.findall(sequence, joined)) > 100


def test_llama_3_gives_the_ids_of_transformers_and_of_tiktoken(llama3, texts):
    loaded = tokenizer.load(llama3)
    ids = loaded.encode_batch(texts)
    reference = transformers.AutoTokenizer.from_pretrained(llama3)
    assert reference(texts, add_special_tokens=False)["input_ids"] == ids
    assert reference("Watu")["input_ids"] == [loaded.bos_id, *loaded.encode("Watu")]
    assert tiktoken_encoding().encode_ordinary_batch(texts) == ids
    assert [loaded.decode(row) for row in ids] == texts


def test_llama_3_has_its_special_ids_and_takes_their_names_for_text(llama3):
    loaded, (ranks, special, _) = tokenizer.load(llama3), llama3_vocabulary.published()
    assert (len(ranks), len(special), loaded.vocab_size) == (128_000, 256, 128_256)
    assert special[:2] == ["<|begin_of_text|>", "<|end_of_text|>"]
    assert (loaded.bos_id, loaded.eos_id, loaded.pad_id) == (128_000, 128_001, None)
    assert special[9] == "<|eot_id|>"
    assert loaded.engine.tokenizer.token_to_id("<|eot_id|>") == 128_009
    assert loaded.encode("!") == [0]
    text = "a" + "".join(special) + "b"
    assert max(loaded.encode(text)) < 128_000
    assert loaded.encode(text) == tiktoken_encoding().encode_ordinary(text)
    assert loaded.decode(loaded.encode(text)) == text


def test_our_own_gives_the_ids_of_transformers_and_loses_one_character(own, own_json, texts):
    loaded = tokenizer.load(own)
    ids = loaded.encode_batch(texts)
    assert transformers.AutoTokenizer.from_pretrained(own_json)(texts, add_special_tokens=False)["input_ids"] == ids
    assert tokenizer.load(own_json).encode_batch(texts) == ids
    assert [loaded.decode(row) for row in ids] == [text.replace(tokenizer.SPACE, " ") for text in texts]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_model_gives_the_ids_of_its_reference_and_what_it_gives_back_is_stable(name, foreign, texts):
    loaded = tokenizer.load(foreign(name))
    ids = loaded.encode_batch(texts)
    reference = SentencePieceBackend(vocab_file=str(foreign(name) / "tokenizer.model"), **NAMES)
    assert [reference(text, add_special_tokens=False)["input_ids"] for text in texts] == ids
    decoded = [loaded.decode(row) for row in ids]
    again = [loaded.decode(row) for row in loaded.encode_batch(decoded)]
    unknown = {i for i, row in enumerate(ids) if loaded.engine.processor.unk_id() in row}
    assert {i for i, text in enumerate(decoded) if again[i] != text} <= unknown
    assert bool(unknown) == (name == "no_bytes")
    if name == "llama_2":
        assert decoded == [text.replace(tokenizer.SPACE, " ") for text in texts]


def test_a_dropped_control_can_let_two_characters_join_later(foreign):
    loaded = tokenizer.load(foreign("mt5"))
    given_back = ["a\x01\u0301"]
    for _ in range(3):
        given_back.append(loaded.decode(loaded.encode(given_back[-1])))
    assert given_back[1:] == ["a\u0301", "\u00e1", "\u00e1"]


def test_transformers_puts_no_space_before_a_space_where_llama_2_puts_one(foreign, texts):
    loaded = tokenizer.load(foreign("llama_2"))
    reference = transformers.LlamaTokenizer.from_pretrained(foreign("llama_2"))
    same = [text for text in texts if not text.startswith((" ", tokenizer.SPACE))]
    assert 0 < len(texts) - len(same) < len(texts) // 10
    assert reference(same, add_special_tokens=False)["input_ids"] == loaded.encode_batch(same)
    for text in (" a", "\u2581a"):
        (space,) = loaded.encode(" a")[:1]
        assert loaded.encode(text) == [space, *reference(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("kind", ["llama3", "own", "own_json"])
def test_offsets_are_where_the_bytes_of_each_token_lie(kind, texts, request):
    loaded = tokenizer.load(request.getfixturevalue(kind))
    bytes_of = llama_3_bytes() if kind == "llama3" else bytes_of_pieces(request.getfixturevalue("own_json"))
    ids = loaded.encode_batch(texts)
    whole = {i: loaded.decode([i]) for i in {i for row in ids for i in row} if is_text(bytes_of[i])}
    for text, row in zip(texts, ids, strict=True):
        same_row, spans = loaded.encode_with_offsets(text)
        assert same_row == row
        read = text if kind == "llama3" else text.replace(tokenizer.SPACE, " ")
        assert spans == spans_of_bytes(read, [bytes_of[i] for i in row])
        for i, (start, end) in zip(row, spans, strict=True):
            assert i not in whole or read[start:end] == whole[i]


@pytest.mark.parametrize("name", FOREIGN)
def test_offsets_of_a_foreign_model_are_of_the_text_before_its_normaliser(name, foreign, texts):
    loaded = tokenizer.load(foreign(name))
    processor = loaded.engine.processor
    for text in texts[::3]:
        ids, spans = loaded.encode_with_offsets(text)
        assert ids == loaded.encode(text)
        held = [span for span in spans if span[0] < span[1]]
        assert held == spans or held == spans[1:]  # a prefix of its own
        starts, ends = [start for start, _ in held], [end for _, end in held]
        assert starts == sorted(starts)
        assert ends == sorted(ends)
        assert all(start <= end for start, end in zip(starts[1:], ends, strict=False))  # no gaps
        assert ends[-1:] == [len(text)][: len(held)]
        before = text[: min(starts, default=None)]
        assert not processor.normalize(before).strip(tokenizer.SPACE)  # it is dropped
        for i, piece, (start, end) in zip(ids, processor.encode(text, out_type=str), spans, strict=True):
            made = processor.normalize(text[start:end])
            assert processor.is_byte(i) or piece.strip(tokenizer.SPACE) in made


def test_a_prefix_is_of_no_character_in_both_formats(foreign, texts, tmp_path):
    transformers.LlamaTokenizer.from_pretrained(foreign("llama_2")).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").unlink(missing_ok=True)
    ours, theirs = tokenizer.load(foreign("llama_2")), tokenizer.load(tmp_path)
    assert ours.encode_with_offsets("\u4e00a")[1][0] == (0, 0)
    for text in texts[::3]:
        if not text.startswith((" ", tokenizer.SPACE)):
            assert ours.encode_with_offsets(text) == theirs.encode_with_offsets(text)


@pytest.mark.parametrize("kind", ["llama3", "own", "own_json", "llama_2"])
def test_a_vocabulary_of_each_kind_gives_texts_back(kind, texts, request, foreign):
    folder = foreign(kind) if kind in FOREIGN else request.getfixturevalue(kind)
    loaded = tokenizer.load(folder)
    vocabulary = TokenizerVocabulary(loaded)
    sample = [text.replace(tokenizer.SPACE, " ") for text in texts[::100]]
    if kind == "llama3":
        assert vocabulary.encode_tf(tf.constant("!!!!! !")).numpy().tolist()[-1] == loaded.encode(" !")[-1]
        assert vocabulary.decode_tf(tf.constant([0, 0, loaded.eos_id, 0])).numpy() == b"!!"
    for text in sample:
        ids = vocabulary.encode_tf(tf.constant(text))
        assert ids.numpy().tolist() == vocabulary.encode(text) == loaded.encode(text)
        assert vocabulary.decode_tf(ids).numpy().decode() == vocabulary.decode(ids.numpy().tolist()) == text
    flat, lengths = vocabulary.encode_documents(np.array([text.encode() for text in sample], object))
    assert lengths.tolist() == [2 + len(row) for row in loaded.encode_batch(sample)]
    assert flat.tolist()[: lengths[0]] == [loaded.bos_id, *loaded.encode(sample[0]), loaded.eos_id]


def tiktoken_encoding() -> tiktoken.Encoding:
    """Llama 3 as Meta runs it."""
    ranks, special, pattern = llama3_vocabulary.published()
    numbered = {name: len(ranks) + i for i, name in enumerate(special)}
    return tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens=numbered)


def llama_3_bytes() -> dict[int, bytes]:
    """The bytes of each id of Llama 3, as published."""
    return {i: token for token, i in llama3_vocabulary.published().ranks.items()}


def bytes_of_pieces(folder) -> dict[int, bytes]:
    """The bytes of each id of a tokenizer with byte fallback."""
    pieces = json.loads((folder / tokenizer.JSON_FILE).read_text())["model"]["vocab"]
    return {
        i: bytes([int(piece[3:5], 16)])
        if re.fullmatch("<0x[0-9A-F]{2}>", piece)
        else piece.replace(tokenizer.SPACE, " ").encode()
        for piece, i in pieces.items()
    }


def spans_of_bytes(text: str, tokens: list[bytes]) -> list[tuple[int, int]]:
    """The characters of which each token has bytes, if the tokens are the bytes of the text."""
    characters = [place for place, character in enumerate(text) for _ in character.encode()]
    spans, at = [], 0
    for token in tokens:
        spans.append((characters[at], characters[at + len(token) - 1] + 1))
        at += len(token)
    assert at == len(characters)
    return spans


def is_text(token: bytes) -> bool:
    """Whether a token holds whole characters only."""
    return token.decode(errors="ignore").encode() == token
