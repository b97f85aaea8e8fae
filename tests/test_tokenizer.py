"""Both formats of a tokenizer give the same ids, here and in Hugging Face, and lose no text."""

import hashlib
import io
import json
import pickle
import random
import subprocess
import sys

import pytest
import sentencepiece
import tiny_corpus
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from emma_jax import tokenizer, tokenizer_json, train_tokenizer

SENTENCES = [line for code in tiny_corpus.SENTENCES for line in tiny_corpus.sentences(code, 60)]
ODD = [
    "", " ", "  ", "a  b", " a", "a ", "\n", "a\nb\n", "\n\n", "\t", "\r\n", "\x00", "a\x00b", "\x7f\x85\u2028\u2029",
    "\ufeffa", "\ufffd", "\u2047", "\u2585", "e\u0301", "\u00e9", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0010ffff", "\ue000", "<s>", "</s>", "<unk>", "<0x41>", "[English]: 100%\n", "1234567890", "{}%s%(name)s",
    "\u200b \u00a0 \u3000",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained tokenizer as `train_tokenizer` leaves it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = train_tokenizer.train(SENTENCES, vocab_size=1200, character_coverage=0.9995)
    train_tokenizer.write(folder, model, {})
    return folder


@pytest.fixture(scope="module")
def json_folder(folder, tmp_path_factory):
    """The same without SentencePiece's file, as an export may be given away."""
    copy = tmp_path_factory.mktemp("json")
    for name in (tokenizer.JSON_FILE, tokenizer.SETTINGS_FILE):
        (copy / name).write_bytes((folder / name).read_bytes())
    return copy


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    """A byte-level tokenizer whose id 0 is "!", as Llama 3's is, and which cuts and pads what it encodes."""
    folder = tmp_path_factory.mktemp("llama")
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    model.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters, show_progress=False)
    )
    model.add_special_tokens(["<|begin|>", "<|end|>"])
    model.enable_truncation(5)
    model.enable_padding(length=8)
    (folder / "tokenizer.json").write_text(model.to_str())
    settings = {"bos_token": {"content": "<|begin|>"}, "eos_token": "<|end|>", "pad_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\nIw== 2\n")
    return folder


def random_texts(number: int, seed: int) -> list[str]:
    """Texts that meet every branch: any characters, few characters, and pieces glued together."""
    rng = random.Random(seed)
    seen = sorted({character for line in SENTENCES for character in line})
    anything = [chr(i) for i in range(0x3000) if chr(i) != tokenizer.SPACE] + ["\U0001f600", "\U00010348"]
    words = " ".join(SENTENCES).split(" ")
    texts = []
    for _ in range(number):
        letters = rng.choice([seen, anything, list("ab \n-"), rng.sample(seen, 3), words])
        texts.append("".join(rng.choice(letters) for _ in range(rng.randint(1, 60))))
    return texts


def test_both_formats_give_the_same_ids_and_lose_nothing(folder, json_folder):
    texts = SENTENCES + ODD + random_texts(4000, seed=0) + ["\n".join(SENTENCES[i : i + 9]) for i in range(100)]
    ours, theirs = tokenizer.load(folder), tokenizer.load(json_folder)
    ids = ours.encode_batch(texts)
    assert ids == theirs.encode_batch(texts)
    for text, row in zip(texts, ids, strict=True):
        assert ours.decode(row) == theirs.decode(row) == text
        assert not {ours.bos_id, ours.eos_id} & set(row)
        assert ours.encode(text) == row


@pytest.mark.parametrize("seed", range(8))
def test_formats_agree_where_a_piece_can_be_joined_in_several_ways(seed):
    rng = random.Random(seed)
    letters = "abc"[: 1 + seed % 3] + " "
    lines = ["".join(rng.choice(letters) for _ in range(rng.randint(5, 40))) for _ in range(200)]
    model = train_tokenizer.train(lines, 272, 1.0)
    ours = sentencepiece.SentencePieceProcessor(model_proto=model)
    theirs = tokenizers.Tokenizer.from_str(tokenizer_json.to_json(model))
    texts = ["".join(rng.choice(letters) for _ in range(rng.randint(1, 60))) for _ in range(2000)]
    assert ours.encode(texts) == [e.ids for e in theirs.encode_batch(texts, add_special_tokens=False)]


def test_the_sign_for_the_space_becomes_a_space(folder, json_folder):
    for loaded in (tokenizer.load(folder), tokenizer.load(json_folder)):
        assert loaded.encode("a\u2581b") == loaded.encode("a b")
        assert loaded.decode(loaded.encode("a\u2581b")) == "a b"


def test_a_newline_is_one_id_of_its_own(folder):
    loaded = tokenizer.load(folder)
    (newline,) = loaded.encode("\n")
    for left, right in [("Four quiet", "boats"), (".", "["), ("", " "), ("1", "\n")]:
        ids = loaded.encode(left) + [newline] + loaded.encode(right)
        assert loaded.encode(f"{left}\n{right}") == ids


def test_decode_leaves_out_what_marks_documents(folder, json_folder, llama_folder):
    for loaded in map(tokenizer.load, (folder, json_folder, llama_folder)):
        assert loaded.decode([loaded.bos_id, *loaded.encode("Marafiki wanne!"), loaded.eos_id]) == "Marafiki wanne!"


def test_transformers_reads_the_export_without_sentencepiece(folder, tmp_path):
    texts = SENTENCES[::7] + ODD + random_texts(300, seed=1)
    for name in tokenizer.load(folder).files:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    code = """if True:
        import json, sys
        sys.modules["sentencepiece"] = None
        import transformers
        loaded = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
        texts = json.load(open(sys.argv[1] + "/texts.json"))
        plain = [loaded(text, add_special_tokens=False)["input_ids"] for text in texts]
        decoded = [loaded.decode(ids) for ids in plain]
        print(json.dumps([plain, decoded, loaded(texts[0])["input_ids"], loaded.bos_token_id, loaded.eos_token_id]))
    """
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    plain, decoded, with_special, bos, eos = json.loads(run.stdout.splitlines()[-1])
    ours = tokenizer.load(folder)
    assert plain == ours.encode_batch(texts)
    assert decoded == texts
    assert with_special == [ours.bos_id, *ours.encode(texts[0])]
    assert (bos, eos) == (ours.bos_id, ours.eos_id)


def test_a_byte_level_tokenizer_keeps_id_0_and_its_texts_whole(llama_folder):
    loaded = tokenizer.load(llama_folder)
    assert loaded.encode("!") == [0]
    assert loaded.decode([0, 0]) == "!!"
    assert (loaded.vocab_size, loaded.bos_id, loaded.eos_id, loaded.pad_id) == (602, 600, 601, None)
    texts = SENTENCES + ODD + random_texts(500, seed=2)
    assert [loaded.decode(ids) for ids in loaded.encode_batch(texts)] == texts
    assert not {600, 601} & set(loaded.encode("a<|end|><|begin|>b"))
    content = (llama_folder / "tokenizer.json").read_bytes()
    assert loaded.fingerprint == hashlib.sha256(content).hexdigest()


def test_a_lone_surrogate_is_named_with_its_place_and_a_way_out(folder, json_folder, llama_folder):
    for loaded in map(tokenizer.load, (folder, json_folder, llama_folder)):

        def error(function, argument) -> str:
            with pytest.raises(ValueError) as raised:
                function(argument)
            assert "\n" not in str(raised.value)
            return str(raised.value)

        for function in (loaded.encode, loaded.encode_with_offsets):
            assert "the text has a lone surrogate, U+D83D, at position 2" in error(function, "é \ud83d\ude00")
            assert "U+DFFF, at position 0" in error(function, "\udfff")
        assert "the text has a lone surrogate, U+D800, at position 1" in error(loaded.encode_batch, ["a\ud800"])
        message = error(loaded.encode_batch, iter(["Watu", "", "\U0001f600a\udc80", "\ud800"]))
        assert "text 2 of the batch has a lone surrogate, U+DC80, at position 2" in message
        way_out = message.split("mend it with ")[1]
        for text, mended in {"a\udc80b": "a\ufffdb", "\ud83d\ude00": "\U0001f600", "\ufeffa": "\ufeffa"}.items():
            assert loaded.decode(loaded.encode(eval(way_out, {"text": text}))) == mended
        with pytest.raises(TypeError):
            loaded.encode_batch(["a", 3])


def test_offsets_are_the_same_in_both_formats(folder, json_folder):
    ours, theirs = tokenizer.load(folder), tokenizer.load(json_folder)
    for text in SENTENCES[::20] + ODD + random_texts(1000, seed=3):
        ids, spans = ours.encode_with_offsets(text)
        assert (ids, spans) == theirs.encode_with_offsets(text)
        assert ids == ours.encode(text)
    assert ours.encode_with_offsets("\U0001f600 \u2581")[1] == [(0, 1)] * 4 + [(1, 2), (2, 3)]


def test_offsets_are_of_the_text_whatever_a_byte_level_tokenizer_makes_of_it(llama_folder, tmp_path):
    model = tokenizers.Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    model.normalizer = normalizers.NFC()
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    model.post_processor = processors.ByteLevel(trim_offsets=True)
    (tmp_path / "tokenizer.json").write_text(model.to_str())
    (tmp_path / "tokenizer_config.json").write_bytes((llama_folder / "tokenizer_config.json").read_bytes())
    ids, spans = tokenizer.load(tmp_path).encode_with_offsets("Xe\u0301  Ye\u0301")
    assert [model.id_to_token(i) for i in ids] == [
        "\u0120",
        "X",
        "\u00c3",
        "\u00a9",
        "\u0120",
        "\u0120",
        "Y",
        "\u00c3",
        "\u00a9",
    ]
    assert spans == [(0, 0), (0, 1), (1, 3), (1, 3), (3, 4), (4, 5), (5, 6), (6, 8), (6, 8)]


def test_a_pickled_tokenizer_is_the_same(folder, llama_folder):
    for loaded in map(tokenizer.load, (folder, llama_folder)):
        copy = pickle.loads(pickle.dumps(loaded))
        assert copy == loaded
        assert copy.encode("<|end|> </s> Watu") == loaded.encode("<|end|> </s> Watu")


def test_what_is_wrong_with_a_folder_is_said_in_a_sentence(folder, llama_folder, tmp_path):
    def error(**files) -> str:
        for path in tmp_path.iterdir():
            path.unlink()
        for name, content in files.items():
            (tmp_path / name.replace("_json", ".json").replace("_model", ".model")).write_bytes(content)
        with pytest.raises(ValueError) as raised:
            tokenizer.load(tmp_path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    model, text = (folder / "tokenizer.model").read_bytes(), (folder / "tokenizer.json").read_bytes()
    llama = (llama_folder / "tokenizer.json").read_bytes()
    assert "there is no tokenizer" in error()
    assert "tokenizer.model is damaged or cut short" in error(tokenizer_model=model[: len(model) // 2])
    assert "tokenizer.model is damaged or cut short" in error(tokenizer_model=b"")
    assert "tokenizer.json is damaged or cut short" in error(tokenizer_json=text[:1000])
    assert "tokenizer.json is damaged or cut short" in error(tokenizer_json=text[:-1], tokenizer_model=model)
    assert "of different tokenizers" in error(tokenizer_json=llama, tokenizer_model=model)
    assert "tiktoken" in error(tokenizer_model=b"IQ== 0\nIg== 1\n")
    assert "what its bos_token is" in error(tokenizer_json=llama)
    assert "tokenizer_config.json is damaged" in error(tokenizer_json=llama, tokenizer_config_json=b"{")


def test_only_a_model_that_keeps_spaces_is_written_as_json():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, model_type="bpe", vocab_size=1200, byte_fallback=True,
        minloglevel=2,
    )  # fmt: skip
    with pytest.raises(ValueError, match="changes spaces"):
        tokenizer_json.to_json(model.getvalue())
