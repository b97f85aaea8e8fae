"""A SentencePiece model written as `tokenizer.json`, the form that Hugging Face reads.

Owns how the merges of the one follow from the scores of the other. Loading either is the business of `tokenizer`.
"""

from collections.abc import Mapping

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, processors

from emma_jax.tokenizer import JSON_FILE, MODEL_FILE, SPACE


def to_json(model: bytes) -> str:
    """`tokenizer.json` with the same ids as a SentencePiece BPE model with byte fallback, identity normalisation and no
    dummy prefix; the Hugging Face form adds BOS where special tokens are asked for, as Llama's does.

    SentencePiece joins any two neighbours whose union is a piece, the best piece first, the leftmost among equals;
    `tokenizers` only joins pairs that are listed. One pair per piece is enough: what a span becomes before it is joined
    to one piece depends on the span alone, since nothing was joined across its ends. So the pair is the last one joined
    in the piece by itself.

    Raises ValueError if the model is of another kind.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    if processor.encode("\x01", out_type=str) != ["<0x01>"] or processor.decode(processor.encode(" \x01 ")) != " \x01 ":
        raise ValueError(f"{MODEL_FILE} has no byte fallback or changes spaces; it cannot be written as {JSON_FILE}")
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    # Neither control and byte pieces, nor what no text can become.
    made = [i for i, piece in enumerate(pieces) if processor.encode(piece.replace(SPACE, " ")) == [i]]
    # Scores fall in the order in which pieces were found; single characters come after all of them.
    rank = {pieces[i]: order for order, i in enumerate(sorted(made, key=processor.get_score, reverse=True))}
    merges = [merge for piece in rank if (merge := last_merge(piece, rank))]

    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    unknown = pieces[processor.unk_id()]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    bos = pieces[processor.bos_id()]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, processor.bos_id())]
    )
    return tokenizer.to_str()


def last_merge(piece: str, rank: Mapping[str, int]) -> tuple[str, str] | None:
    """The two parts that byte-pair encoding joins last to make `piece`; None for a character, or if it never makes it.

    `rank` of a piece is the lower the earlier it is made.

    >>> last_merge("aaa", {"aa": 0, "aaa": 1, "a": 2}), last_merge("abc", {"bc": 0, "abc": 1, "ab": 2})
    (('aa', 'a'), ('a', 'bc'))
    """
    parts, merge = list(piece), None
    while len(parts) > 1:
        ranks = [rank.get(left + right, len(rank)) for left, right in zip(parts, parts[1:], strict=False)]
        at = ranks.index(min(ranks))  # the leftmost of the best
        if ranks[at] == len(rank):
            return None
        merge = (parts[at], parts[at + 1])
        parts[at : at + 2] = ["".join(merge)]
    return merge
