"""Batches of PAIRS from the two sides that a reader has found, without the pairs that lack one."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from emma_jax.corpus import streams
from emma_jax.corpus.source import PAIRS
from emma_jax.corpus.statistics import KEPT, READ, Report


def pair_batch(
    src: pa.StringArray,
    tgt: pa.StringArray,
    src_lang: str | pa.StringArray,
    tgt_lang: str | pa.StringArray,
    report: Report,
) -> pa.RecordBatch:
    """A batch of the pairs that have two sides; those with a blank or missing side are counted and left out.

    >>> batch = pair_batch(pa.array(["a", " ", None]), pa.array(["b", "c", "d"]), "en", "de", report := Report())
    >>> batch.to_pylist(), report.counts["read"]["empty_side"]
    ([{'src_text': 'a', 'tgt_text': 'b', 'src_lang': 'en', 'tgt_lang': 'de'}], 2)
    """
    has_text = [pc.not_equal(pc.utf8_trim_whitespace(side), "").fill_null(False) for side in (src, tgt)]
    languages = [pa.repeat(lang, len(src)) if isinstance(lang, str) else lang for lang in (src_lang, tgt_lang)]
    batch = pa.record_batch([src, tgt, *languages], schema=PAIRS)
    kept = batch.filter(pc.and_(*has_text))
    report.count(READ, "empty_side", len(batch) - len(kept))
    report.count(READ, KEPT, len(kept))
    return kept


def batch_of_lines(
    src_lines: Sequence[bytes | None], tgt_lines: Sequence[bytes | None], pair: tuple[str, str], report: Report
) -> pa.RecordBatch:
    r"""A batch of the pairs of lines whose sides are both text; a line is None if it is too long.

    >>> batch = batch_of_lines([b"a", b"\xe4", None], [b"b", b"c", b"d"], ("en", "de"), report := Report())
    >>> batch["tgt_text"].to_pylist(), dict(report.counts["read"])
    (['b'], {'too_large': 1, 'undecodable': 1, 'kept': 1})
    """
    too_large = sum(src is None or tgt is None for src, tgt in zip(src_lines, tgt_lines, strict=True))
    sides = pa.record_batch([streams.as_text(src_lines), streams.as_text(tgt_lines)], ["src", "tgt"])
    whole = sides.drop_null()
    report.count(READ, "too_large", too_large)
    report.count(READ, "undecodable", len(sides) - len(whole) - too_large)
    return pair_batch(whole["src"], whole["tgt"], *pair, report)
