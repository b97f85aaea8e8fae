"""Bits per byte of each language, and translation gain: what a model saves when it is given a text's source.

Neither needs a judge of outputs or a threshold of ability: they are defined for every model, however small, and for
every language or direction, and models with different tokenizers can be compared.

For the gain, three forms of each held-out sentence are scored: alone (BOS, text), given its source (the document of one
pair, up to and without the end of the line), and, as a control, given the source of another sentence, which tells the
language and the form but not the content.

Bits are over the UTF-8 bytes of the text. Where the source is given, they include the space between label and text
(see `task.split_at_space`): it makes the measured gain smaller, never larger.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from emma_jax import manifest
from emma_jax.evaluation import parallel
from emma_jax.evaluation.task import Measure, Model, Outcome, Request, split_at_space

BITS_PER_BYTE = "bits_per_byte"
BENCHMARK = "translation_gain"
ALONE, GIVEN = "bits_per_byte_alone", "bits_per_byte_given_source"
GIVEN_OTHER, GAIN = "bits_per_byte_given_other_source", "translation_gain"


class BitsPerByte:
    """The task, in each language that the corpus has held-out text of: the beginnings of some of its texts.

    A beginning has less bytes than a row has tokens, so every tokenizer is asked for the same.
    """

    name, shots, version = BITS_PER_BYTE, 0, "emma_jax bits_per_byte 1"

    def __init__(self, config, corpus: manifest.Manifest):
        evaluation = config.evaluation
        self._texts = {
            code: [
                beginning(text, evaluation.row_length - 1)
                for (text,) in parallel.choose(held_out(corpus, entry), evaluation.texts_per_language, config.seed)
            ]
            for code, entry in corpus.languages.items()
            if "validation" in entry.splits
        }
        if not any(self._texts.values()):
            raise ValueError(f"the corpus in {corpus.folder!r} has no held-out text in any language to score")
        self.prompt_hash = parallel.digest([self.version, *self._texts.items()])

    def run(self, model: Model) -> Outcome:
        """The measure of each language."""
        flat = [Request("", text) for texts in self._texts.values() for text in texts]
        bits = np.split(
            -model.score(flat) / math.log(2), np.cumsum([len(texts) for texts in self._texts.values()])[:-1]
        )
        measures = []
        for (code, texts), bits_of_texts in zip(self._texts.items(), bits, strict=True):
            num_bytes = np.array([len(text.encode()) for text in texts])
            fits = np.isfinite(bits_of_texts)
            if fits.any():
                value = float(bits_of_texts[fits].sum() / num_bytes[fits].sum())
                measures.append(Measure(code, BITS_PER_BYTE, value, int(fits.sum())))
        return Outcome(measures)


class TranslationGain:
    """The task, over each language paired with English, in both directions."""

    name, shots, version = BENCHMARK, 0, "emma_jax translation_gain 1"

    def __init__(self, config, corpus: manifest.Manifest):
        count = config.evaluation.sentences_per_direction
        directions = parallel.from_english(corpus, count, config.seed)
        self._directions = [d for direction in directions for d in (direction, direction.reversed)]
        self._requests = [forms(d, config.rendering) for d in self._directions]
        self.prompt_hash = parallel.digest([self.version, *self._requests])

    def run(self, model: Model) -> Outcome:
        """The measures of each direction; sentences of which a form does not fit into a row are left out."""
        flat = [request for requests in self._requests for request in requests]
        bits = np.split(-model.score(flat) / math.log(2), np.cumsum([len(r) for r in self._requests])[:-1])
        measures, skipped = [], 0
        for direction, direction_bits in zip(self._directions, bits, strict=True):
            num_bytes = np.array([len(sentence.target.encode()) for sentence in direction.sentences])
            found = measure(direction.name, direction_bits.reshape(len(num_bytes), -1), num_bytes)
            measures += found
            skipped += len(num_bytes) - (found[0].n if found else 0)
        if skipped:
            total = sum(len(direction.sentences) for direction in self._directions)
            logging.info("%s: %d of %d sentences are longer than a row and left out", self.name, skipped, total)
        return Outcome(measures)


def held_out(corpus: manifest.Manifest, entry: manifest.Entry) -> Iterator[tuple[str]]:
    """The held-out texts of a language, each a tuple of its own."""
    for batch in corpus.read(entry, "validation"):
        yield from ((text,) for text in batch["text"].to_pylist())


def beginning(text: str, num_bytes: int) -> str:
    """The text up to a character that ends within `num_bytes` of UTF-8.

    >>> beginning("три", 5)
    'тр'
    """
    return text.encode()[:num_bytes].decode(errors="ignore")


def forms(direction: parallel.Direction, rendering) -> list[Request]:
    """For each sentence in order its forms: alone, given its source and, where there is one, given another source."""
    labels = [parallel.label(code, rendering) for code in (direction.source, direction.target)]
    requests = []
    has_other = len({sentence.source for sentence in direction.sentences}) > 1
    for number, (source, target) in enumerate(direction.sentences):
        requests.append(Request("", target))
        for text in (source, other_source(direction.sentences, number))[: 1 + has_other]:
            requests.append(split_at_space(parallel.prompt(rendering.pair_line, labels[0], text, labels[1]), target))
    return requests


def other_source(sentences: Sequence[parallel.Sentence], number: int) -> str:
    """The first source after that of sentence `number`, in a circle, that differs from it; its own if all are equal.

    >>> numbers = [parallel.Sentence(*pair) for pair in (("one", "moja"), ("one", "mmoja"), ("two", "mbili"))]
    >>> [other_source(numbers, number) for number in range(3)]
    ['two', 'two', 'one']
    """
    own = sentences[number].source
    following = [*sentences[number + 1 :], *sentences[:number]]
    return next((sentence.source for sentence in following if sentence.source != own), own)


def measure(language: str, bits: np.ndarray, num_bytes: np.ndarray) -> list[Measure]:
    """The measures of a direction: `bits` has a row for each sentence and a column for each form; none if all are nan.

    The gain is 1 - bits given the source / bits alone, both summed over sentences: as a share it does not depend on how
    many bytes a script takes.

    >>> bits = np.array([[8.0, 6.0, 7.0], [4.0, 2.0, 4.0], [9.0, np.nan, 9.0]])
    >>> for row in measure("eng_Latn-swh_Latn", bits, np.array([3, 1, 5])):
    ...     print(row.metric, round(row.value, 4), row.n)
    bits_per_byte_alone 3.0 2
    bits_per_byte_given_source 2.0 2
    bits_per_byte_given_other_source 2.75 2
    translation_gain 0.3333 2
    """
    fits = np.isfinite(bits).all(axis=1)
    if not fits.any():
        return []
    sums, n = bits[fits].sum(axis=0), int(fits.sum())
    values = dict(zip((ALONE, GIVEN, GIVEN_OTHER), sums / num_bytes[fits].sum(), strict=False))
    values[GAIN] = 1.0 - sums[1] / sums[0]
    return [Measure(language, metric, float(value), n) for metric, value in values.items()]
