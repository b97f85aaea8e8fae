"""The metrics of generated text, by the packages that the field quotes: sacrebleu, rouge-score, bert-score.

Each takes pairs (reference, output) and gives one number for them all.
"""

import functools
import os
import re
from collections.abc import Sequence

import sacrebleu
from rouge_score import rouge_scorer, tokenizers
from sacrebleu.tokenizers import tokenizer_spm

Pairs = Sequence[tuple[str, str]]

BLEU_TOKENIZER = "flores200"
BERT_MODEL = "bert-base-multilingual-cased"


def bleu(pairs: Pairs) -> float:
    """BLEU of a corpus, 0 to 100, over the pieces of sacrebleu's tokenizer `flores200`."""
    references, outputs = zip(*pairs, strict=True)
    return sacrebleu.BLEU(tokenize=BLEU_TOKENIZER).corpus_score(outputs, [references]).score


def chrf(pairs: Pairs) -> float:
    """chrF++ (word order 2) of a corpus, 0 to 100."""
    references, outputs = zip(*pairs, strict=True)
    return sacrebleu.CHRF(word_order=2).corpus_score(outputs, [references]).score


@functools.cache
def check_bleu_tokenizer() -> None:
    """Raises ValueError, before anything is generated, if sacrebleu neither has its tokenizer nor can get it."""
    entry = tokenizer_spm.SPM_MODELS[BLEU_TOKENIZER]["url"]
    path = os.path.join(tokenizer_spm.SACREBLEU_DIR, "models", os.path.basename(entry))
    if os.path.exists(path):
        return
    fault = "HF_HUB_OFFLINE is set"
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("1", "ON", "YES", "TRUE"):
        try:
            sacrebleu.BLEU(tokenize=BLEU_TOKENIZER)
            return
        except Exception as error:  # of the network or the library, which may raise anything
            fault = str(error)
    raise ValueError(f"BLEU needs sacrebleu's tokenizer {BLEU_TOKENIZER} ({fault}); put {entry} at {path}")


class _Words(tokenizers.Tokenizer):
    """What stands between white space, of any script: rouge-score's own tokenizer keeps a to z and digits only."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def rouge_l(pairs: Pairs) -> float:
    """The mean ROUGE-L F over words, 0 to 1, of the outputs that are not empty and not only points.

    Those are left out as in the published scripts; see `answered`. 0 if all are.
    """
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())
    kept = [(reference, output) for reference, output in pairs if _says_something(output)]
    values = [scorer.score(reference, output)["rougeL"].fmeasure for reference, output in kept]
    return sum(values) / len(values) if values else 0.0


def answered(pairs: Pairs) -> float:
    """The share of outputs that are not empty and not only points."""
    return sum(_says_something(output) for _, output in pairs) / len(pairs)


def bert_score(pairs: Pairs) -> float:
    """The mean BERTScore F1 by multilingual BERT, without rescaling, of the outputs that `rouge_l` counts."""
    from bert_score import score  # only here: it is an extra of its own, and needs torch

    kept = [(reference, output) for reference, output in pairs if _says_something(output)]
    if not kept:
        return 0.0
    references, outputs = zip(*kept, strict=True)
    _, _, f1 = score(list(outputs), list(references), model_type=BERT_MODEL, rescale_with_baseline=False)
    return float(f1.mean())


def _says_something(output: str) -> bool:
    return not re.fullmatch(r"\.*", output.strip())
