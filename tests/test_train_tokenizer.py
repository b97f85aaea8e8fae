"""A tokenizer is trained on every language, the same bytes each time, and never over another one."""

import collections
import json

import pytest
import tiny_corpus

from configs import base
from emma_jax import tokenizer, tokenizer_json, train_tokenizer


@pytest.fixture
def config(tmp_path):
    """A config whose corpus is there and whose tokenizer is not."""
    config = base.get_config()
    config.corpus.folder, config.tokenizer.folder = str(tmp_path / "corpus"), str(tmp_path / "tokenizer")
    config.tokenizer.vocab_size = 900
    tiny_corpus.standard(tmp_path / "corpus")
    return config


def files_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_twice_gives_the_same_bytes(config, tmp_path):
    train_tokenizer.main(config)
    first = files_of(tmp_path / "tokenizer")
    assert set(first) == {"training.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json"}
    config.tokenizer.folder = str(tmp_path / "again")
    train_tokenizer.main(config)
    assert files_of(tmp_path / "again") == first
    assert tokenizer.load(config.tokenizer.folder).vocab_size == 900


def test_a_finished_tokenizer_is_left_alone_and_an_unfinished_one_is_not(config, tmp_path):
    train_tokenizer.main(config)
    folder = tmp_path / "tokenizer"
    first, written = files_of(folder), (folder / "tokenizer.json").stat().st_mtime_ns
    train_tokenizer.main(config)
    assert (folder / "tokenizer.json").stat().st_mtime_ns == written
    (folder / "tokenizer.json").unlink()
    train_tokenizer.main(config)
    assert files_of(folder) == first


def test_a_tokenizer_of_other_settings_or_text_is_not_overwritten(config, tmp_path):
    train_tokenizer.main(config)
    config.tokenizer.vocab_size = 901
    with pytest.raises(ValueError, match="vocab_size 900, and the config says 901"):
        train_tokenizer.main(config)
    config.tokenizer.vocab_size = 900
    tiny_corpus.standard(tmp_path / "corpus", rows=41)
    with pytest.raises(ValueError, match="trained with corpus"):
        train_tokenizer.main(config)


def test_the_tokenizer_of_a_model_is_left_as_it_is(config, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    train_tokenizer.main(config)
    assert files_of(tmp_path / "tokenizer") == {"tokenizer.json": b"{}"}


def test_each_language_gives_its_quota_evenly_spaced(tmp_path):
    texts = {
        "eng_Latn": {"train": [f"e{i}" for i in range(100)], "validation": ["no"]},
        "swh_Latn": {"train": [f"s{i}" for i in range(5)]},
        "deu_Latn": {"validation": ["nein"]},
    }
    pairs = {"eng_Latn-tam_Taml": {"train": (["no"] * 50, [f"t{i}" for i in range(50)])}}
    corpus = tiny_corpus.write(tmp_path, texts, pairs, rows_per_file=7)
    lines = list(train_tokenizer.sentences(corpus, max_sentences=30))
    assert collections.Counter(line[0] for line in lines) == {"e": 13, "s": 5, "t": 12}
    english = [int(line[1:]) for line in lines if line[0] == "e"]
    assert {after - before for before, after in zip(english, english[1:], strict=False)} == {7, 8}
    assert len(list(train_tokenizer.sentences(corpus, max_sentences=1000))) == 155


def test_every_script_is_covered(config):
    train_tokenizer.main(config)
    loaded = tokenizer.load(config.tokenizer.folder)
    for text in tiny_corpus.SENTENCES.values():
        pieces = loaded.encode(text)
        assert len(pieces) < 0.8 * len(text), text
        assert "\ufffd" not in [loaded.decode([piece]) for piece in pieces], text  # no letter is spelt in bytes


def test_no_piece_holds_a_newline(tmp_path):
    lines = [f"one\ntwo {i}\nthree" for i in range(200)]
    corpus = tiny_corpus.write(tmp_path, {"eng_Latn": {"train": lines}})
    model = train_tokenizer.train(list(train_tokenizer.sentences(corpus, 1000)), 290, 1.0)
    assert not [piece for piece in json.loads(tokenizer_json.to_json(model))["model"]["vocab"] if "\n" in piece]


@pytest.mark.parametrize(
    "lines, vocab_size, message",
    [
        ([], 900, "no text to train a tokenizer on"),
        ([" ", ""], 900, "no text to train a tokenizer on"),
        (["hello world"], 900, "vocab_size is 900, but the corpus has enough text for [0-9]+ pieces at most"),
        (["hello world"], 200, "vocab_size is 200, but the corpus needs [0-9]+ pieces for its characters alone"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(lines, vocab_size, message):
    with pytest.raises(ValueError, match=message) as raised:
        train_tokenizer.train(lines, vocab_size, 1.0)
    assert "\n" not in str(raised.value)
