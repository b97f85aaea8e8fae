"""What a corpus says of its sources: what was read, dropped and left, and the codes that were refused."""

import itertools
import json

import pyarrow as pa
import pytest

from emma_jax import manifest
from emma_jax.corpus import records, source, statistics
from emma_jax.corpus.statistics import Report

THRESHOLDS = dict(sentences=dict(too_long=9), documents=dict(too_long=9), collections={}, pairs=dict(identical_sides=1))


def cleaned(batches, name="web", collection="", macrolanguages="mala"):
    """The report on the batches of one part, and the tables of what is left."""
    part = source.Part(source.Source(name, "invented", "nowhere", "MIT"), "all", (), collection=collection)
    report = Report()
    cleaning = records.Cleaning(part, [("deu_Latn", "fra_Latn")], macrolanguages, THRESHOLDS, report)
    return report, [*cleaning.tables(batches)]


def batch(schema, *rows):
    """A record batch of rows."""
    return pa.record_batch([list(column) for column in zip(*rows, strict=True)], schema=schema)


def corpus(reports, **sources):
    """The manifest of reports, whose only language has so many rows of each source."""
    entry = manifest.Entry({"train": manifest.Split(("t",), sum(sources.values()), 1, 1)}, "very low", sources)
    total = Report()
    for report in reports:
        total.add(report)
    fields = dict(folder="", version=manifest.VERSION, seed=0, config_hash="", pairs={}, licences={})
    return manifest.Manifest(languages={"deu_Latn": entry}, **fields, **total.for_manifest())


def test_aligned_pairs_count_for_their_source():
    sentences = [("1", "en", "Save"), ("1", "de", "Sichern"), ("1", "fr", "far too long"), ("2", "qq", "a")]
    report, tables = cleaned([batch(source.SENTENCES, *sentences)])
    assert [(kind, len(table)) for kind, table in tables] == [("documents", 2), ("pairs", 1)]
    assert report.source_records == {"web": {"read": 4 + 1, "kept": 3}}


def test_sides_of_pairs_are_counted_apart_from_texts():
    pairs = [("Ja", "Yes", "de", "en"), ("far too long", "No", "de", "en"), ("No", "far too long", "de", "en")]
    pairs += [("Ja", "Ja", "de", "fr"), ("Ja", "Yes", "qq", "en"), ("Ja", "Nein", "de", "de")]
    documents = [("Ja", "de"), ("far too long", "de")]
    report, _ = cleaned([batch(source.PAIRS, *pairs), batch(source.DOCUMENTS, *documents)])
    assert report.counts["clean_texts"] == {"kept": 1, "too_long": 1}
    assert report.counts["clean_sides"] == {"kept": 3 + 2, "too_long": 2}  # the second side of those left by the first
    assert report.counts["clean_pairs"] == {"kept": 1, "identical_sides": 1}
    assert report.source_records == {"web": {"read": 6 + 2, "kept": 2}}


@pytest.mark.parametrize(("macrolanguages", "lang"), [("mala", "swh_Latn"), ("macro", "swa_Latn")])
def test_languages_of_collections_are_by_the_policy(macrolanguages, lang):
    documents = batch(source.DOCUMENTS, ("x", "swh"), ("y", "qq"))
    _, [(_, table)] = cleaned([documents], collection="book.b", macrolanguages=macrolanguages)
    assert table["lang"].to_pylist() == [lang, ""]


def test_a_source_of_which_nothing_is_left_is_named():
    documents = [("far too long", "de"), ("Ja", "qq")]
    reports = [
        cleaned(batches, name)[0]
        for name, batches in (
            ("books", [batch(source.DOCUMENTS, ("Ja", "de"))]),
            ("empty", []),
            ("other", [batch(source.DOCUMENTS, ("Ja", "de"), ("far too long", "de"))]),
            ("web", [batch(source.DOCUMENTS, *documents)]),
            ("web", []),
        )
    ]
    lines = [*statistics.summary(corpus(reports, books=1))]
    assert [line for line in lines if line.startswith("warning: ")] == [
        "warning: nothing was read of the source 'empty'",
        "warning: nothing is left of the source 'other': 2 read, 1 dropped, 1 found in other sources or held out of "
        "training",
        "warning: nothing is left of the source 'web': 2 read, 2 dropped",
    ]
    assert "1 language: 1 row and 1 token for train, 0 rows and 0 tokens for validation" in lines
    assert "0 bad files, 1 refused code" in lines


def test_refused_codes_are_cut_alike_in_any_order(monkeypatch):
    monkeypatch.setattr(statistics, "MAX_REFUSED_CODES", 3)
    reports = [Report() for _ in range(4)]
    for number, report in enumerate(reports[:3]):
        for code, count in (("qa", 1), ("qb", 2), (f"q{number}", 3), ("qc", 2), ("qd", 50)):
            report.refuse(code, "web", "not a language code", count)
    reports[3].refuse("qz", "books", "not a language code", 1)
    found = [corpus(order).refused_codes for order in itertools.permutations(reports)]
    assert all(each == found[0] for each in found)
    web = {each["code"]: each["records"] for each in found[0] if each["source"] == "web"}
    # Each piece of work names its first three; of all, q2 and qa have as many records as q0 and q1.
    assert web == {"qb": 6, "q0": 3, "q1": 3, "others": 3 * (1 + 2 + 3 + 2 + 50) - 12}
    assert len(found[0]) == 4 + 1


def test_a_report_goes_through_json():
    report, _ = cleaned([batch(source.DOCUMENTS, ("far too long", "de"), ("Ja", "qq"))])
    report.bad_files["web/a"] = "is empty"
    again = Report.of_json(json.loads(json.dumps(report.as_json())))
    assert again == report
    again.add(report)
    assert again.source_records == {"web": {"read": 4, "kept": 0}}
