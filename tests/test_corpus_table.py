"""Tables aligned by id: one part for each set of languages, the quoting that a file has, ids that hold."""

import gzip
import json
import tracemalloc

import pytest

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import table
from emma_jax.corpus.statistics import Report

SIB = {
    "eng_Latn": 'index_id\tcategory\ttext\n5\ttravel\tThe sea.\n7\tsports\t"He said ""no"" to me."\n9\thealth\tRest.\n',
    "swh_Latn": "index_id\tcategory\ttext\n7\tsports\tAlisema hapana.\n5\ttravel\tBahari.\n",
}


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def make_source(path, **fields):
    return source_lib.Source(name="sib", reader="table", path=str(path), licence="CC BY-SA", **fields)


def read_all(path, **fields):
    """Part -> language -> id -> text, and the report."""
    result, report = {}, Report()
    for part in table.parts(make_source(path, **fields)):
        texts = result.setdefault(part.name, {})
        for batch in table.read(part, report):
            assert batch.schema.equals(source_lib.SENTENCES)
            for message_id, lang, text in zip(*batch.to_pydict().values(), strict=True):
                assert message_id not in texts.setdefault(lang, {})
                texts[lang][message_id] = text
    return result, report


def test_sib_200(tmp_path):
    for lang, content in SIB.items():
        put(tmp_path / lang / "dev.tsv", content)
        put(tmp_path / lang / "test.tsv", content.replace("5\t", "6\t"))
    texts, report = read_all(tmp_path)
    assert texts["*/dev"] == {
        "eng_Latn": {"5": "The sea.", "7": 'He said "no" to me.', "9": "Rest."},
        "swh_Latn": {"5": "Bahari.", "7": "Alisema hapana."},
    }
    assert set(texts["*/test"]["eng_Latn"]) == {"6", "7", "9"}
    assert report.counts["read"] == {"kept": 10} and not report.bad_files
    for part in table.parts(make_source(tmp_path)):
        assert part.languages == {"eng_Latn", "swh_Latn"} and len(part.files) == 2


@pytest.mark.parametrize(
    "name, expected, content",
    [
        ("dev/{}.jsonl", "dev/*", '{{"id": 5, "text": "{}"}}\n'),
        ("{}.csv", "*", 'id,text\n5,"{}"\n'),
        ("x/{}/devtest.csv", "x/*/devtest", 'text,more,idx\n"{}","a\nb",5\n'),
        ("flores.{}.tsv", "flores.*", "id\tsentence\n5\t{}\n"),
    ],
)
def test_forms_of_the_field(tmp_path, name, expected, content):
    for lang, text in (("en", "A, b."), ("pt_BR", "Ç; d.")):
        put(tmp_path / f"{name.format(lang)}.gz", gzip.compress(content.format(text).encode()))
    texts, report = read_all(tmp_path)
    ((part, found),) = texts.items()
    assert part == expected
    assert found == {"en": {"5": "A, b."}, "pt_BR": {"5": "Ç; d."}} and not report.bad_files


def test_quotes_of_a_table_that_does_not_quote_are_text(tmp_path):
    put(tmp_path / "en.tsv", 'id\ttext\n1\t"Yes", she said.\n2\t"All of it."\n3\t6" by 4"\n4\t"\n5\tlast\n')
    texts, report = read_all(tmp_path)
    assert texts["*"]["en"] == {"1": '"Yes", she said.', "2": '"All of it."', "3": '6" by 4"', "4": '"', "5": "last"}
    assert report.counts["read"] == {"kept": 5}


def test_names_of_columns_are_those_of_the_source(tmp_path):
    put(tmp_path / "en" / "a.tsv", "nr\tid\tpremise\n1\tx\tThe sea.\n")
    assert read_all(tmp_path, columns="id=nr text=premise")[0] == {"*/a": {"en": {"1": "The sea."}}}


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("eng/war.tsv", "eng"),
        ("zh-Hant/new.tsv", "zh-Hant"),
        ("eng/deu_Latn.csv", "deu_Latn"),
        ("eng/sr_Latn.csv", "sr_Latn"),
    ],
)
def test_a_full_code_goes_before_folders_and_folders_before_the_files_own_name(name, language):
    assert table._locate(name)[0] == language


def test_shorter_code_first_and_language_that_is_none_as_it_is_spelled(tmp_path):
    for lang in ("pt_BR", "pt", "qq_Latn", "deu_Latn"):
        put(tmp_path / lang / "train.tsv", "id\ttext\n1\ta\n")
    (part,) = table.parts(make_source(tmp_path))
    names = [file.name.partition("/")[0] for file in part.files]
    assert names == ["pt", "pt_BR", "qq_Latn", "deu_Latn"]
    assert part.languages == {"por_Latn", "deu_Latn"}
    assert set(read_all(tmp_path)[0]["*/train"]) == {"pt", "pt_BR", "qq_Latn", "deu_Latn"}
    put(tmp_path / "dev.tsv", "id\ttext\n")
    with pytest.raises(ValueError, match="dev.tsv names no language"):
        table.parts(make_source(tmp_path))


def test_bad_records_cost_themselves_only(tmp_path):
    lines = [b"1\ttext one", b"2\ttwo\tmore", b"3", b"", b"4\tvi\xe8r", b"1\tagain", b"5\t ", b"\tno id", b"6\ts\0x"]
    put(tmp_path / "nl.tsv", b"id\ttext\n" + b"\n".join([*lines, b"7\tseven"]))
    texts, report = read_all(tmp_path)
    assert texts["*"]["nl"] == {"1": "text one", "6": "s\0x", "7": "seven"}
    counts = dict(kept=3, wrong_columns=2, undecodable=1, duplicate_id=1, empty_text=1, no_id=1)
    assert report.counts["read"] == counts and not report.bad_files


def test_bad_json_costs_its_line_only(tmp_path):
    records = [
        '{"id": 1, "text": "a"}',
        "{",
        "[1]",
        '"x"',
        "null",
        '{"id": 2}',
        '{"id": [3], "text": "c"}',
        "[" * 100_000,
    ]
    records += ['{"id": 4, "text": 4}', '{"id": 5, "text": "\\ud800"}', '{"id": 6, "text": "f\\u0000"}', "9" * 9999]
    put(tmp_path / "en.jsonl", "\n".join(records))
    texts, report = read_all(tmp_path)
    assert texts["*"]["en"] == {"1": "a", "6": "f\0"}
    assert report.counts["read"] == {"kept": 2, "bad_json": 3, "wrong_columns": 6, "undecodable": 1}


def test_bad_quotes_of_csv_cost_what_they_span(tmp_path):
    put(tmp_path / "en.csv", 'id,text\n1,"a"\n2,"b" c\n3,"d"\n4,e\n5,"never ended\n6,f\n')
    texts, report = read_all(tmp_path)
    assert texts["*"]["en"] == {"1": "a", "3": "d", "4": "e"}
    assert report.counts["read"] == {"kept": 3, "bad_quoting": 2}


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("en.tsv", b"", "is empty"),
        ("en.csv", b"key,value\n1,a\n", "has no columns id or index_id or idx and text or sentence"),
        ("en.tsv", "id\ttext\n".encode("utf-16"), "is in UTF-16"),
        ("en.csv", b"\xff\xfe\xfd\n" * 100, "UTF-16"),
        ("en.tsv.gz", b"no gzip at all", "is damaged"),
    ],
)
def test_bad_file_is_named(tmp_path, name, content, reason):
    put(tmp_path / "a" / name, content)
    put(tmp_path / "a" / "de.tsv", "id\ttext\n1\teins\n")
    texts, report = read_all(tmp_path)
    assert texts["a/*"]["de"] == {"1": "eins"}
    assert reason in report.bad_files[f"sib/a/{name}"]


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_cut_gzip_keeps_what_stood_before(tmp_path, suffix):
    rows = [(number, f"word {number * 7919 % 1000}") for number in range(20_000)]
    if suffix == "jsonl":
        content = "\n".join(json.dumps(dict(id=number, text=text)) for number, text in rows)
    else:
        between = "\t" if suffix == "tsv" else ","
        content = "\n".join(["id" + between + "text", *(f"{number}{between}{text}" for number, text in rows)])
    whole = gzip.compress(content.encode())
    put(tmp_path / f"en.{suffix}.gz", whole[: len(whole) // 2])
    texts, report = read_all(tmp_path)
    assert 2_000 < len(texts["*"]["en"]) < 20_000
    assert report.bad_files == {f"sib/en.{suffix}.gz": "is cut short"}


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_line_of_100_mb_and_quote_without_end_take_no_memory(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("emma_jax.corpus.streams.MAX_RATIO", 10_000)
    between, first = {"tsv": ("\t", "id\ttext\n"), "csv": (",", "id,text\n"), "jsonl": ("", "")}[suffix]
    long = f'1{between}"{"x" * (100 << 20)}'
    open_quote = f'2{between}"' + f"{'y' * 98}\n" * 100_000
    end = '{"id": 3, "text": "three"}' if suffix == "jsonl" else f"3{between}three"
    put(tmp_path / f"en.{suffix}.gz", gzip.compress(f"{first}{long}\n{open_quote}{end}\n".encode(), 1))
    del long, open_quote
    tracemalloc.start()
    texts, report = read_all(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.counts["read"]["too_large"] == 1
    assert all(reason.startswith("most of its records") for reason in report.bad_files.values())
    assert texts["*"]["en"]["3"] == "three" and peak < 80 << 20
