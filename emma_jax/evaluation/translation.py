"""Sample translations: what a model writes after a few prompts, for a reader to look at. Nothing is scored."""

from collections import Counter
from collections.abc import Sequence

from emma_jax import manifest
from emma_jax.evaluation import parallel
from emma_jax.evaluation.task import Answer, Model, Outcome

USUAL_CHARACTERS = 60  # of the English side of a sentence that shows something and is soon read


class SampleTranslations:
    """The task: one held-out sentence in each of a few languages, over as many scripts as there are, in turn from
    English and into English.
    """

    name, shots, version = "sample_translations", 0, "emma_jax sample_translations 1"

    def __init__(self, config, corpus: manifest.Manifest):
        candidates = parallel.from_english(corpus, config.evaluation.sentences_per_direction, config.seed)
        chosen = spread(candidates, config.evaluation.num_samples)
        directions = [direction.reversed if number % 2 else direction for number, direction in enumerate(chosen)]
        self._items = []
        for direction, english in zip(directions, chosen, strict=True):
            number = usual(english.sentences)
            source, target = (parallel.label(code, config.rendering) for code in direction[:2])
            sentence = direction.sentences[number]
            prompt = parallel.prompt(config.rendering.pair_line, source, sentence.source, target).rstrip(" ")
            self._items.append((direction.name, prompt, sentence.target))
        self.prompt_hash = parallel.digest([self.version, config.evaluation.max_new_tokens, *self._items])

    def run(self, model: Model) -> Outcome:
        """The model's answers to all prompts."""
        outputs = model.generate([prompt for _, prompt, _ in self._items])
        return Outcome(
            answers=[
                Answer(language, prompt, output, reference, {})
                for (language, prompt, reference), output in zip(self._items, outputs, strict=True)
            ]
        )


def spread(directions: Sequence[parallel.Direction], count: int) -> list[parallel.Direction]:
    """At most `count` directions from English: of each script the language with most text, then the second, and so on.

    >>> sizes = {"deu_Latn": 9, "swh_Latn": 2, "rus_Cyrl": 5, "hin_Deva": 1}
    >>> directions = [parallel.Direction("eng_Latn", code, (), size) for code, size in sizes.items()]
    >>> [direction.target for direction in spread(directions, 4)]
    ['deu_Latn', 'rus_Cyrl', 'hin_Deva', 'swh_Latn']
    """
    seen, ranked = Counter(), []
    for direction in sorted(directions, key=lambda d: (-d.size, d.target)):
        script = direction.target.split("_")[1]
        ranked.append((seen[script], direction))
        seen[script] += 1
    return [direction for _, direction in sorted(ranked, key=lambda item: item[0])[:count]]


def usual(sentences: Sequence[parallel.Sentence]) -> int:
    """The number of the sentence whose source is nearest to a usual length; the first of equals.

    >>> usual([parallel.Sentence("No", "Hapana"), parallel.Sentence("Please sign in again", "Ingia tena")])
    1
    """
    return min(range(len(sentences)), key=lambda number: abs(len(sentences[number].source) - USUAL_CHARACTERS))
