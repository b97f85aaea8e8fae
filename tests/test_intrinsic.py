"""Bits per byte and translation gain: those of the whole model on each sentence, and of models known in advance."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_corpus
import tiny_evaluation
from flax import nnx

from data_tasks import rendering
from emma_jax import model
from emma_jax.evaluation import intrinsic, parallel
from emma_jax.evaluation.task import Request, split_at_space


@pytest.fixture
def corpus(tmp_path):
    return tiny_evaluation.write_corpus(tmp_path / "corpus")


@pytest.fixture
def config(tiny_config, corpus):
    return tiny_evaluation.configure(tiny_config, corpus.folder)


class Uniform:
    """A model to which all bytes are equally likely."""

    def score(self, requests):
        return np.array([-len(request.target.encode()) * math.log(256) for request in requests])


class Oracle(Uniform):
    """A model that knows every translation of a source it is given."""

    def score(self, requests):
        pairs = {
            side
            for texts in tiny_evaluation.SENTENCES.values()
            for pair in zip(tiny_evaluation.ENGLISH, texts, strict=True)
            for side in (pair, pair[::-1])
        }
        sources = [request.context.split("\n")[0].partition(": ")[2] for request in requests]
        is_known = [(s, r.target.strip()) in pairs for s, r in zip(sources, requests, strict=True)]
        return np.where(is_known, 0.0, super().score(requests))


def values(task, model):
    return {(m.language, m.metric): m.value for m in task.run(model).measures}


def test_a_score_is_that_of_the_sentence_alone(config, corpus, tmp_path):
    params = tiny_evaluation.write_model(tmp_path / "model", config, seed=1)
    language_model = tiny_evaluation.load(config, tmp_path / "model")
    task = intrinsic.TranslationGain(config, corpus)
    requests = [request for requests in task._requests for request in requests]
    llama = nnx.merge(model.abstract(config.model)[0], params)
    vocabulary = tiny_evaluation.write_tokenizer(tmp_path / "tokenizer")

    @jax.jit
    def log_probabilities(tokens_1L):
        positions_1L = jnp.arange(tokens_1L.shape[1])[None]
        hidden_1LD, _ = llama(tokens_1L, positions_1L, jnp.ones_like(tokens_1L))
        return jax.nn.log_softmax(llama.logits(hidden_1LD))[0]

    expected = []
    for context, target in requests:
        context_ids, ids = vocabulary.encode(context), vocabulary.encode(target)
        document = [vocabulary.bos_id, *context_ids, *ids]
        # Padded behind, where a causal model does not look, so that it is compiled once.
        logs_LV = log_probabilities(jnp.array([document + [0] * (96 - len(document))]))
        expected.append(sum(float(logs_LV[len(context_ids) + i, id_]) for i, id_ in enumerate(ids)))
    scores = language_model.score(requests)
    assert np.std(expected) > 10  # far from all the same
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_a_request_that_is_longer_than_a_row_is_nan_and_its_sentence_left_out(config, corpus, tmp_path):
    tiny_evaluation.write_model(tmp_path / "model", config, seed=1)
    config.evaluation.row_length = 40
    language_model = tiny_evaluation.load(config, tmp_path / "model")
    size = len(tiny_evaluation.write_tokenizer(tmp_path / "tokenizer").encode("x" * 40))
    assert size == 40  # one id each: the row is just full
    scores = language_model.score([Request("", "x" * 40), Request("", "x" * 41), Request("", "x")])
    assert np.isfinite(scores).tolist() == [True, False, True]
    measures = intrinsic.TranslationGain(config, corpus).run(language_model).measures
    assert {m.n for m in measures} < {1, 2, 3, 4}


def test_context_and_target_have_the_ids_of_the_whole_text(tmp_path):
    vocabulary = tiny_evaluation.write_tokenizer(tmp_path)
    prompt = parallel.prompt("[{language}]: {text}\n", "English", "two dogs", "Swahili")
    context, target = split_at_space(prompt, "mbwa wawili")
    assert vocabulary.encode(context) + vocabulary.encode(target) == vocabulary.encode(prompt + "mbwa wawili")
    # Cut behind the space it would not be so: the test would notice.
    assert vocabulary.encode(prompt) + vocabulary.encode("mbwa wawili") != vocabulary.encode(prompt + "mbwa wawili")


@pytest.mark.parametrize("label", ["name", "code"])
def test_a_prompt_begins_as_a_document_of_the_training_data(config, label):
    config.rendering.language_label = label
    source, target = rendering.frames("pair.eng_Latn-swh_Latn", config.rendering)
    labels = [parallel.label(code, config.rendering) for code in ("eng_Latn", "swh_Latn")]
    prompt = parallel.prompt(config.rendering.pair_line, labels[0], "two {dogs}", labels[1])
    assert prompt == source.before + "two {dogs}" + source.after + target.before


def test_both_directions_of_each_language_with_the_same_sentences(config, corpus):
    english = parallel.from_english(corpus, 4, seed=0)
    assert [direction.name for direction in english] == [
        "eng_Latn-hin_Deva", "eng_Latn-rus_Cyrl", "eng_Latn-swh_Latn",
    ]  # fmt: skip
    for direction in english:
        both = zip(tiny_evaluation.ENGLISH, tiny_evaluation.SENTENCES[direction.target], strict=True)
        assert len(direction.sentences) == 4
        assert direction.reversed.sentences == tuple((text, english) for english, text in direction.sentences)
        assert set(direction.sentences) < set(both)
    languages = {m.language for m in intrinsic.TranslationGain(config, corpus).run(Uniform()).measures}
    assert languages == {d.name for direction in english for d in (direction, direction.reversed)}


def test_another_sentences_source_is_never_the_right_one(config, corpus):
    for direction in parallel.from_english(corpus, 4, seed=0):
        requests = intrinsic.forms(direction, config.rendering)
        for alone, given, other in zip(*[iter(requests)] * 3, strict=True):
            assert alone == ("", given.target.strip())
            assert other.target == given.target
            assert other.context != given.context


def test_a_uniform_model_needs_eight_bits_and_gains_nothing(config, corpus):
    found = values(intrinsic.TranslationGain(config, corpus), Uniform())
    for (_, metric), value in found.items():
        if metric == intrinsic.ALONE:
            assert value == pytest.approx(8.0)
        if metric == intrinsic.GAIN:
            assert -0.3 < value < 0  # the space before the target is all that the source costs


def test_a_uniform_model_needs_eight_bits_in_every_language(config, corpus):
    outcome = intrinsic.BitsPerByte(config, corpus).run(Uniform())
    assert {m.language for m in outcome.measures} == {"eng_Latn", *tiny_evaluation.SENTENCES}
    assert [(m.metric, m.value, m.n) for m in outcome.measures] == [("bits_per_byte", pytest.approx(8.0), 4)] * 4


def test_bits_per_byte_are_those_of_the_beginnings_of_texts(config, corpus, tmp_path):
    tiny_evaluation.write_model(tmp_path / "model", config, seed=1)
    config.evaluation.row_length = 8
    model = tiny_evaluation.load(config, tmp_path / "model")
    task = intrinsic.BitsPerByte(config, corpus)
    texts = [text for texts in task._texts.values() for text in texts]
    assert max(len(text.encode()) for text in texts) == 7
    assert {text[:2] for text in task._texts["rus_Cyrl"]} < {text[:2] for text in tiny_evaluation.SENTENCES["rus_Cyrl"]}
    found = {m.language: m.value for m in task.run(model).measures}
    for code, texts in task._texts.items():
        bits = -model.score([Request("", text) for text in texts]).sum() / math.log(2)
        assert found[code] == pytest.approx(bits / sum(len(text.encode()) for text in texts))
    assert len(set(found.values())) == 4


def test_a_corpus_without_held_out_text_is_refused(config, tmp_path):
    corpus = tiny_corpus.write(tmp_path / "other", {"eng_Latn": {"train": ["x"]}})
    with pytest.raises(ValueError, match="has no held-out text in any language to score"):
        intrinsic.BitsPerByte(config, corpus)


def test_an_oracle_gains_everything_but_only_from_the_right_source(config, corpus):
    found = values(intrinsic.TranslationGain(config, corpus), Oracle())
    gains = [value for (_, metric), value in found.items() if metric == intrinsic.GAIN]
    assert gains == [1.0] * 6
    assert min(value for (_, metric), value in found.items() if metric == intrinsic.GIVEN_OTHER) > 8.0


def test_the_prompt_hash_tells_other_texts_apart(config, corpus):
    first = intrinsic.TranslationGain(config, corpus).prompt_hash
    assert intrinsic.TranslationGain(config, corpus).prompt_hash == first
    config.rendering.language_label = "code"
    assert intrinsic.TranslationGain(config, corpus).prompt_hash != first
