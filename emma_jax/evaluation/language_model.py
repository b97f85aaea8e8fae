"""Our model as lm-evaluation-harness knows models: `--model emma_jax --model_args pretrained=DIR`.

Owns how the harness's requests become pairs and prompts: by the rules of its own backend for transformers, so that both
agree on what they are asked. The work is `text_model`'s.

One rule differs: a rolling log-likelihood is of the text after one BOS. That backend puts two before it where the
tokenizer adds one, and counts the second as text, unless it is told `add_bos_token=False`.
"""

import collections
from collections.abc import Sequence
from typing import Any

from absl import logging
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from emma_jax.responses import digest
from emma_jax.text_model import Pair, Prompt, TextModel

NAME = "emma_jax"
MAX_NEW_TOKENS = 256  # where a task does not say
# What greedy decoding and drawing know of the options that transformers has; these values change nothing.
IDLE_OPTIONS = dict(num_beams=1, top_k=0, repetition_penalty=1.0, typical_p=1.0, num_return_sequences=1, use_cache=True)


@register_model(NAME)
class LanguageModel(LM):
    """The model in the folder `pretrained`: a workdir, WORKDIR@STEP or a Hugging Face folder; or one that is loaded.

    `batch_size` is how many texts are generated at a time; `responses` a file in which what is finished is kept, so
    that nothing is computed twice; `seed` that of what is drawn. What follows from a request, its repetition and the
    seed does not depend on other requests. `max_batch_size` and `device` are the harness's, and mean nothing here.
    """

    def __init__(
        self,
        pretrained: str | TextModel,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        max_length: int = 0,
        responses: str = "",
        seed: int = 0,
        **unknown: Any,
    ):
        super().__init__()
        if unknown:
            raise ValueError(
                f"the model {NAME} has no argument {min(unknown)!r}; it has pretrained, max_length, responses and seed"
            )
        num_slots = int(batch_size) if str(batch_size or "auto").isdecimal() else 0
        is_loaded = isinstance(pretrained, TextModel)
        self.text_model = pretrained if is_loaded else TextModel(pretrained, responses, int(max_length), num_slots)
        self._seed = seed

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log p in nats, whether greedy decoding gives it) of each continuation after its context."""
        texts = [split(*request.args) for request in requests]
        ids = self.text_model.encode([text for context, target in texts for text in (context, context + target)])
        bos_id = self.text_model.tokenizer.bos_id
        pairs, groups = [], []
        for (context, target), request in zip(texts, requests, strict=True):
            before = ids[context]
            pairs.append(Pair([bos_id, *before], ids[context + target][len(before) :]))
            # Without a context, the choices of an item may still begin alike.
            groups.append(tuple(before) or (request.task_name, request.doc_id))
        scores = self._told(self.text_model.score(pairs, groups))
        return [(score.log_probability, score.is_greedy) for score in scores]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """log p in nats of each text after BOS; one that is longer than the window is scored in windows."""
        ids = self.text_model.encode([request.args[0] for request in requests])
        bos_id, max_length = self.text_model.tokenizer.bos_id, self.text_model.max_length
        pairs, owners = [], []
        for number, request in enumerate(requests):
            for window in get_rolling_token_windows(ids[request.args[0]], bos_id, max_length, context_len=1):
                pairs.append(Pair(*make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, score in zip(owners, self._told(self.text_model.score(pairs, range(len(pairs)))), strict=True):
            totals[number] += score.log_probability
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text that follows each context, up to the first of its stops."""
        seen: collections.Counter = collections.Counter()
        prompts = []
        for request in requests:
            prompt = self._prompt(*request.args)
            # A task may ask the same several times, for other draws.
            draw = digest([self._seed, *prompt, seen[prompt]])
            seen[prompt] += 1
            prompts.append(prompt._replace(seed=int(draw[:8], 16) if prompt.temperature else 0))
        return self._told(self.text_model.complete(prompts))

    @property
    def tokenizer_name(self) -> str:
        """What the harness's caches of requests are told apart by."""
        return self.text_model.tokenizer.fingerprint

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes about the model beside its results."""
        return {"model_name": self.text_model.name, "max_length": self.text_model.max_length, "seed": self._seed}

    def _prompt(self, context: str, options: dict[str, Any]) -> Prompt:
        options = dict(normalize_gen_kwargs(options, MAX_NEW_TOKENS))
        until = options.pop("until", [])
        stops = tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop)
        is_drawn, temperature, top_p = (options.pop(name, 0) for name in ("do_sample", "temperature", "top_p"))
        temperature, top_p = (temperature, top_p or 1.0) if is_drawn else (0.0, 1.0)
        # The harness's backend refuses where there is no room for a prompt.
        max_new_tokens = min(options.pop("max_gen_toks"), self.text_model.max_length // 2)
        for name, value in options.items():
            if IDLE_OPTIONS.get(name, not value) != value:
                raise ValueError(f"{NAME} cannot generate with {name}={value!r}; it knows temperature and top_p")
        return Prompt(context, max_new_tokens, stops, float(temperature), float(top_p))

    def _told(self, answers: Sequence[Any]) -> Sequence[Any]:
        """`answers`, after a word about what was cut off, which the user may not want."""
        if self.text_model.num_cut:
            logging.warning(
                "%s: of %d requests the beginning was cut off: they are longer than the window of %d tokens",
                self.text_model.name, self.text_model.num_cut, self.text_model.max_length,
            )  # fmt: skip
        self.text_model.num_cut = 0
        return answers


def split(context: str, continuation: str) -> tuple[str, str]:
    """Context and continuation, where white space that ends the context goes to the continuation, as the harness does.

    >>> split("Question: why?\\nAnswer: ", "so")
    ('Question: why?\\nAnswer:', ' so')
    """
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation
