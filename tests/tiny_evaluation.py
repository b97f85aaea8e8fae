"""A corpus of a few sentences, a tokenizer that joins spaces with words, and random models, for tests of evaluation."""

import json

import jax
import tiny_corpus
import tokenizers
from ml_collections import ConfigDict

from emma_jax import languages, manifest, model, tokenizer
from emma_jax.checkpoint import Checkpoints, Metadata
from emma_jax.evaluation.task_model import TaskModel
from emma_jax.text_model import TextModel

ENGLISH = ("one man", "the two dogs", "three", "a fourth sentence", "and a fifth one")
SENTENCES = {
    "swh_Latn": ("mtu mmoja", "mbwa wawili", "tatu", "sentensi ya nne", "na ya tano"),
    "rus_Cyrl": ("один человек", "две собаки", "три", "четвёртое предложение", "и пятое"),
    "hin_Deva": ("एक आदमी", "दो कुत्ते", "तीन", "चौथा वाक्य", "और पाँचवाँ"),
}


def write_corpus(folder) -> manifest.Manifest:
    """Writes a corpus that holds out all sentences and their pairs; to train on, Hindi has most and Swahili least."""
    pairs = {}
    for size, (code, texts) in enumerate(SENTENCES.items(), 1):
        pair = "-".join(sorted((code, languages.ENGLISH)))
        sides = (ENGLISH, texts) if pair.startswith(languages.ENGLISH) else (texts, ENGLISH)
        pairs[pair] = {"train": (["x"] * size, ["y"] * size), "validation": sides}
    texts = {languages.ENGLISH: ENGLISH} | SENTENCES
    return tiny_corpus.write(
        folder, {code: {"train": ["x"], "validation": list(of_code)} for code, of_code in texts.items()}, pairs
    )


def write_tokenizer(folder) -> tokenizer.Tokenizer:
    """Writes byte-pair encoding over bytes, trained on the sentences as a document has them, with Llama 3's words."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"])
    texts = [f"[{name}]: {text}\n" for name, all in zip("ABC", SENTENCES.values(), strict=True) for text in all]
    trained.train_from_iterator(texts * 3, trainer)
    trained.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return tokenizer.load(str(folder))


def write_model(folder, config, seed: int):
    """Writes random parameters of `config` as step 0 of a workdir, with a tokenizer; returns the parameters."""
    vocabulary = write_tokenizer(folder / "tokenizer")
    params = model.initialize(config.model, jax.random.key(seed))
    checkpoints = Checkpoints(folder, ConfigDict(dict(save_every_steps=1, keep=1)))
    metadata = Metadata({"model": config.model.to_dict()}, tokenizer=vocabulary.fingerprint)
    checkpoints.save(0, params, None, metadata)
    checkpoints.close()
    return params


def load(config, folder) -> TaskModel:
    """The model in `folder` as tasks see it."""
    return TaskModel(TextModel(str(folder)), config.evaluation)


def configure(config, folder):
    """Points a tiny config at the corpus in `folder` and makes evaluation small."""
    config.corpus.folder = str(folder)
    # Wide enough for random models to differ.
    config.model.update(vocab_size=400, initializer_range=0.3)
    config.evaluation.update(sentences_per_direction=4, texts_per_language=4, row_length=96, slots=8)
    config.evaluation.update(max_new_tokens=6, num_samples=3)
    return config
