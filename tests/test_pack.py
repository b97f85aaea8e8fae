"""From a corpus to rows: every document that was drawn, in the declared shares, the same bytes however it was run."""

import collections
import functools
import itertools
import logging
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import synthetic
import tiny_corpus

from configs import base
from data_tasks import sizes
from data_tasks import tasks as corpus_tasks
from emma_jax import (
    exchange,
    input_pipeline,
    languages,
    pack,
    pack_draws,
    pack_plan,
    pack_stages,
    packing,
    record_reader,
    store,
    tokenizer,
)

ROOT = pathlib.Path(__file__).parent.parent
SIZES = {"deu_Latn": 160, "eng_Latn": 40, "fra_Latn": 20, "swh_Latn": 80}  # texts in training
PAIRS = {"eng_Latn-swh_Latn": 87, "deu_Latn-fra_Latn": 31}


def texts(name: str, number: int) -> list[str]:
    """Different texts of different lengths, without the spaces that the toy tokenizer does not know; full of "!"."""
    rng = np.random.default_rng(list(name.encode()))
    letters = list("!!!abcdefgh")
    return [f"{name[:3]}!{i}!" + "".join(rng.choice(letters, rng.integers(1, 60))) for i in range(number)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with a corpus and a tokenizer whose id 0 is "!"."""
    folder = tmp_path_factory.mktemp("sources")

    def split(values, size):
        return {"train": values[:size], "validation": values[size:]}

    tiny_corpus.write(
        folder / "corpus",
        {code: split(texts(code, size + 12), size) for code, size in SIZES.items()},
        {
            pair: {
                "train": tuple(texts(side + pair, size) for side in "ab"),
                "validation": tuple(texts(side + pair + "validation", 25) for side in "ab"),
            }
            for pair, size in PAIRS.items()
        },
    )
    synthetic.write_tokenizer(folder / "tokenizer")
    return folder


def config_of(sources, folder, components=("monolingual", "bilingual"), **changes):
    """A whole config that packs all of the components once; and validation, if `changes` of config.pack ask for it."""
    config = base.get_config()
    config.corpus.folder = str(sources / "corpus")
    config.tokenizer.folder = str(sources / "tokenizer")
    config.pack.update(dict(folder=str(folder), row_length=2048, validation_documents=0) | changes)
    for name, tasks in dict(monolingual="mono.*", bilingual="pair.*").items():
        if name in components:
            config.pack.components[name] = base.component(tasks, tokens=10**9, max_epochs=1.0)
    return config


@pytest.fixture
def make_config(sources, tmp_path):
    """A function of a folder's name, components and changes of config.pack that returns a whole config."""
    return lambda rows="rows", *args, **kwargs: config_of(sources, tmp_path / rows, *args, **kwargs)


@pytest.fixture(scope="module")
def packed(sources, tmp_path_factory):
    """The config of rows that are there already; not to be changed."""
    config = config_of(sources, tmp_path_factory.mktemp("packed") / "rows", validation_documents=2)
    pack.main(config)
    return config


def read(folder, component: str) -> list[tuple[str, list[int]]]:
    """The name of the task and the ids of each document, or piece of one, in the order of the rows."""
    found = store.load(folder, component)
    records = record_reader.RecordReader(folder, [found], num_threads=1, patience_seconds=0.0)
    rows = [packing.decode_row(record) for record in records.read([0] * found.rows, range(found.rows))]
    assert len(rows) == found.rows
    assert sum(row.num_targets for row in rows) == found.tokens
    return [(found.tasks[task].name, ids.tolist()) for row in rows for task, ids in row.documents()]


def shown(config, ids) -> str:
    """The text of a document, which must be whole: BOS first, EOS last and nowhere else."""
    assert (ids[0], ids[-1]) == (synthetic.BOS, synthetic.EOS)
    assert not {synthetic.BOS, synthetic.EOS} & set(ids[1:-1])
    return tokenizer.load(config.tokenizer.folder).decode(ids[1:-1]).replace(" ", "")


def label(code: str) -> str:
    """The name of a language as `shown` shows it."""
    return languages.name(code).replace(" ", "")


def shards(folder) -> dict[str, bytes]:
    """All files of all components."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_document_is_in_the_rows_once_with_its_task(packed):
    config = packed
    documents = read(config.pack.folder, "monolingual")
    expected = [(f"mono.{code}", text) for code, size in SIZES.items() for text in texts(code, size + 12)[:size]]
    assert sorted((task, shown(config, ids)) for task, ids in documents) == sorted(expected)

    lines = collections.Counter()
    for task, ids in read(config.pack.folder, "bilingual"):
        lines.update((task, line) for line in shown(config, ids).split("[")[1:])
    expected = collections.Counter()
    for pair, size in PAIRS.items():
        for code, side in zip(pair.split("-"), "ab", strict=True):
            # Once in each direction.
            expected.update({(f"pair.{pair}", f"{label(code)}]:{text}"): 2 for text in texts(side + pair, size)})
    assert lines == expected


def test_store_says_what_is_in_the_rows(packed):
    config = packed
    found = store.load(config.pack.folder, "monolingual")
    vocabulary = tokenizer.load(config.tokenizer.folder)
    assert (found.tokenizer, found.vocab_size, found.row_length) == (vocabulary.fingerprint, synthetic.NUM_IDS, 2048)
    assert found.fill == pytest.approx(found.tokens / found.rows / 2048)
    assert [task.name for task in found.tasks] == [f"mono.{code}" for code in SIZES]
    for task, (code, size) in zip(found.tasks, SIZES.items(), strict=True):
        of_task = texts(code, size + 12)[:size]
        assert task.documents == size
        assert task.bytes == sum(map(len, of_task))
        assert task.tokens == task.bytes + size  # a character is a token here, and EOS is one
        assert task.epochs == pytest.approx(1.0)
    assert sum(task.share for task in found.tasks) == pytest.approx(1.0)
    assert not (pathlib.Path(config.pack.folder) / "monolingual" / "exchange").exists()
    assert found.settings == pack_plan.settings(config, "monolingual")


def targets(folder) -> collections.Counter:
    """How often each task predicts each id from the one before."""
    documents = read(folder, "bilingual")
    return collections.Counter((task, *pair) for task, ids in documents for pair in itertools.pairwise(ids))


def test_long_documents_are_cut_and_lose_nothing(packed, make_config):
    config = make_config("rows", ["bilingual"], row_length=32)
    pack.main(config)
    assert max(len(ids) for _, ids in read(config.pack.folder, "bilingual")) == 33
    assert targets(config.pack.folder) == targets(packed.pack.folder)


def test_concatenated_rows_are_full_and_lose_nothing(packed, make_config):
    config = make_config("rows", ["bilingual"], row_length=512, packing="concatenate", rows_per_shard=8)
    pack.main(config)
    found = store.load(config.pack.folder, "bilingual")
    assert len(found.shards) > 1
    assert found.rows - len(found.shards) <= found.tokens / 512 <= found.rows  # the last of a shard may be short
    assert targets(config.pack.folder) == targets(packed.pack.folder)
    wholes = [shown(config, ids) for _, ids in read(packed.pack.folder, "bilingual")]
    pieces = [ids for _, ids in read(config.pack.folder, "bilingual")]
    assert len(wholes) < len(pieces) < len(wholes) + found.rows  # cut where rows end, and nowhere else


@pytest.mark.parametrize(("tokens", "drawn"), [(3, 1), (10, 1), (14, 1), (15, 2), (24, 2), (26, 3), (1003, 100)])
def test_drawing_ends_as_near_to_the_target_as_whole_documents_can(monkeypatch, tokens, drawn):
    document = pack_draws.Document(np.arange(11), 10, -1)
    monkeypatch.setattr(pack_draws, "_epochs", lambda *_: itertools.repeat(document))
    planned = pack_plan.Draw("mono.eng_Latn", "mono.eng_Latn", tokens=tokens, size=100.0)
    assert len(list(pack_draws.training_documents(planned, seed=0))) == drawn


@pytest.mark.parametrize("max_epochs", [1.0, 3.0])
def test_realised_shares_are_the_declared_ones(make_config, max_epochs):
    config = make_config("rows", ["monolingual"])
    config.pack.components.monolingual.update(tokens=4000, temperature=2.0, max_epochs=max_epochs)
    pack.main(config)
    found = store.load(config.pack.folder, "monolingual")
    assert found.tokens == pytest.approx(4000, abs=4 * 70 / 2)
    letters = {task.name: sum(map(len, texts(task.name[5:], 200)[: SIZES[task.name[5:]]])) for task in found.tasks}
    for task in found.tasks:
        document = 70  # the longest; the last one is taken or left, whichever is nearer
        assert abs(task.tokens - task.share * found.tokens) <= max(0.01 * task.share * found.tokens, document / 2)
        assert task.tokens <= max_epochs * (letters[task.name] + SIZES[task.name[5:]]) + document
    by_name = {task.name[5:]: task.share for task in found.tasks}
    if max_epochs == 3.0:  # nothing is at its limit: shares are square roots of sizes
        assert by_name["deu_Latn"] / by_name["eng_Latn"] == pytest.approx(2, rel=0.1)


def test_repeated_tasks_are_shuffled_and_grouped_anew(make_config):
    config = make_config("rows", ["bilingual"])
    config.pack.components.bilingual.update(tasks="pair.deu*", max_epochs=3.0)
    pack.main(config)
    documents = [tuple(ids) for _, ids in read(config.pack.folder, "bilingual")]
    assert len(documents) >= 3 * 2 * 3
    assert len(set(documents)) == len(documents)
    assert store.load(config.pack.folder, "bilingual").tasks[0].epochs == pytest.approx(3.0, abs=0.3)


def test_a_part_of_a_task_is_drawn_from_all_of_it(make_config, monkeypatch):
    monkeypatch.setattr(corpus_tasks, "SHUFFLE_RECORDS", 1)  # as if the task were far larger than the buffer
    config = make_config("rows", ["monolingual"])
    config.pack.components.monolingual.update(tasks="mono.deu_Latn", tokens=1000)
    pack.main(config)
    drawn = [int(shown(config, ids).split("!")[1]) for _, ids in read(config.pack.folder, "monolingual")]
    assert len(drawn) == len(set(drawn)) == pytest.approx(1000 / 37, abs=8)
    halves = np.histogram(drawn, bins=[0, 80, 160])[0]
    assert halves.min() > 0.25 * len(drawn)


def test_validation_has_a_slice_for_each_language_and_direction(packed):
    config = packed
    documents = collections.defaultdict(list)
    for task, ids in read(config.pack.folder, "validation"):
        documents[task].append(shown(config, ids))
    assert set(documents) == {f"mono.{code}" for code in SIZES} | {
        "pair.eng_Latn-swh_Latn", "pair.swh_Latn-eng_Latn", "pair.deu_Latn-fra_Latn", "pair.fra_Latn-deu_Latn",
    }  # fmt: skip
    assert sorted(documents["mono.swh_Latn"]) == sorted(texts("swh_Latn", 92)[80:82])
    for name, first in {"pair.eng_Latn-swh_Latn": "eng_Latn", "pair.swh_Latn-eng_Latn": "swh_Latn"}.items():
        assert len(documents[name]) == 2
        assert all(
            document.startswith(f"[{label(first)}]:") and document.count("[") == 20 for document in documents[name]
        )
    tasks = {task.name: task for task in store.load(config.pack.folder, "validation").tasks}
    assert tasks["mono.swh_Latn"].bytes == sum(map(len, documents["mono.swh_Latn"]))
    # Spaces and line breaks are bytes of the text, although the toy tokenizer has no ids for them.
    blanks = 40 * 2 + 20 * languages.name("swh_Latn").count(" ")
    assert tasks["pair.swh_Latn-eng_Latn"].bytes == sum(map(len, documents["pair.swh_Latn-eng_Latn"])) + blanks


def test_training_and_validation_share_no_text(packed):
    config = packed
    for component in ("monolingual", "bilingual"):
        trained = {shown(config, ids) for _, ids in read(config.pack.folder, component)}
        held_out = {shown(config, ids) for _, ids in read(config.pack.folder, "validation")}
        assert not trained & held_out


def test_the_reader_mixes_what_was_packed_by_tokens(packed):
    rows = input_pipeline.open_rows(packed.pack.folder, {"bilingual": 32.3, "monolingual": 26.3}, row_length=2048)
    counts = np.zeros(len(rows.task_names))
    for _, batch in zip(range(60), rows.batches(16, seed=0), strict=False):
        counts += np.bincount(batch["tasks"][batch["tasks"] >= 0], minlength=len(counts))
    bilingual = sum(count for name, count in zip(rows.task_names, counts, strict=True) if name.startswith("pair."))
    assert bilingual / counts.sum() == pytest.approx(32.3 / 58.6, rel=0.01)


def run_program(config, folder, *overrides):
    """Runs the program as a user does, with the components of `config`."""
    file = folder / "config.py"
    file.write_text(
        "from configs import base\ndef get_config():\n    config = base.get_config()\n"
        f"    config.update({config.to_dict()!r})\n    return config\n"
    )
    command = [sys.executable, "-m", "emma_jax.pack", f"--config={file}", *overrides]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_rows_are_the_same_bytes_for_two_workers(make_config, tmp_path):
    config = make_config(rows_per_shard=2, validation_documents=1)
    config.pack.components.monolingual.update(tokens=6000, max_epochs=2.0)
    pack.main(config)
    result = run_program(config, tmp_path, "--config.pack.num_workers=2", f"--config.pack.folder={tmp_path / 'two'}")
    assert result.returncode == 0, result.stderr
    one, two = shards(tmp_path / "rows"), shards(tmp_path / "two")
    assert list(one) == list(two)
    assert one == two
    assert "monolingual/rows-00001-of-00002.arrayrecord" in one


class Stages:
    """What the two stages were called for; one that is in `fail` fails at its call of that number."""

    def __init__(self, monkeypatch):
        self.fail = {}
        self.calls = collections.defaultdict(list)
        for name in ("exchange_task", "pack_shard"):
            monkeypatch.setattr(pack_stages, name, functools.partial(self.call, name, getattr(pack_stages, name)))

    def call(self, name, work, job, plan, number):
        self.calls[name].append((plan.component, number))
        if len(self.calls[name]) == self.fail.get(name):
            raise RuntimeError(f"{name} is interrupted")
        work(job, plan, number)


@pytest.fixture
def stages(monkeypatch):
    return Stages(monkeypatch)


def test_an_interrupted_run_goes_on_and_leaves_the_same_bytes(make_config, tmp_path, stages):
    pack.main(make_config("rows", ["monolingual"], rows_per_shard=2))
    whole = dict(stages.calls)
    again = make_config("again", ["monolingual"], rows_per_shard=2)
    for stage, number in (("exchange_task", 3), ("pack_shard", 2)):
        stages.calls.clear()
        stages.fail = {stage: number}
        with pytest.raises(RuntimeError, match=f"{stage} is interrupted"):
            pack.main(again)
    assert len(stages.calls["exchange_task"]) == len(whole["exchange_task"]) - 2
    stages.calls.clear()
    stages.fail = {}
    pack.main(again)
    assert not stages.calls["exchange_task"]
    assert len(stages.calls["pack_shard"]) == len(whole["pack_shard"]) - 1
    assert shards(tmp_path / "again") == shards(tmp_path / "rows")


def test_a_second_run_does_nothing_and_a_changed_component_is_packed_alone(make_config, tmp_path, stages, caplog):
    config = make_config()
    pack.main(config)
    before = shards(tmp_path / "rows")
    stages.calls.clear()
    caplog.set_level(logging.INFO)
    pack.main(config)
    assert not stages.calls
    assert shards(tmp_path / "rows") == before
    assert "component bilingual is packed already" in caplog.text

    config.pack.components.monolingual.tokens = 2000
    config.mixture.bilingual = 2.0  # of no consequence for rows
    with pytest.raises(
        ValueError, match="monolingual.tokens of 1000000000, and this config says 2000; runs may depend on them"
    ):
        pack.main(config)
    assert shards(tmp_path / "rows") == before
    config.pack.replace = True
    pack.main(config)
    assert {component for component, _ in stages.calls["pack_shard"]} == {"monolingual"}
    assert "component monolingual was packed from another config" in caplog.text
    after = shards(tmp_path / "rows")
    assert {file for file in after if after[file] != before.get(file)} == {
        "monolingual/store.json", "monolingual/rows-00000-of-00001.arrayrecord",
    }  # fmt: skip


def test_what_was_begun_with_another_config_is_not_continued(make_config, tmp_path, stages):
    stages.fail = {"pack_shard": 1}
    with pytest.raises(RuntimeError):
        pack.main(make_config("rows", ["monolingual"]))
    stages.fail = {}
    pack.main(make_config("rows", ["monolingual"], row_length=64))
    pack.main(make_config("whole", ["monolingual"], row_length=64))
    assert shards(tmp_path / "rows") == shards(tmp_path / "whole")


def test_less_than_was_wanted_is_said_once_with_both_figures(make_config, caplog):
    config = make_config("rows", ["monolingual"])
    pack.main(config)
    tokens = store.load(config.pack.folder, "monolingual").tokens
    warnings = [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "monolingual" in r.getMessage()
    ]
    assert len(warnings) == 1
    assert "tokens, not 1,000,000,000" in warnings[0]
    assert int(warnings[0].split()[4].replace(",", "")) == pytest.approx(tokens, abs=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pack.update(row_length=1), "row_length is 1; it must be 2 or more"),
        (lambda config: config.pack.update(validation_documents=-1), "validation_documents is -1"),
        (lambda config: config.pack.update(packing="tight"), "packing is 'tight'; it can be best_fit, concatenate"),
        (lambda config: config.update(seed=-1), "seed is -1"),
        (lambda config: config.mixture.update(monolingal=1.0), "monolingal.*is monolingual meant"),
        (lambda config: config.pack.components.monolingual.update(tasks="mono.swa_Latn"), "is mono.swh_Latn meant"),
        (lambda config: config.pack.components.monolingual.update(policy="equal"), "no policy 'equal'"),
        (lambda config: config.pack.components.monolingual.update(max_epochs=0.0), "max_epochs .* must be positive"),
        (
            lambda config: config.pack.components.update(validation=base.component("*", 1)),
            "cannot be called 'validation'",
        ),
        (lambda config: config.pack.components.update({"a/b": base.component("*", 1)}), "cannot be called 'a/b'"),
        (lambda config: config.pack.update(components={}), "components is empty"),
        (lambda config: config.corpus.update(folder="nowhere"), "no corpus in 'nowhere'"),
        (lambda config: config.tokenizer.update(folder="nowhere"), "no tokenizer in 'nowhere'"),
    ],
)
def test_mistakes_are_refused(make_config, change, message):
    config = make_config()
    if "components is empty" in message:
        del config.pack.components.monolingual, config.pack.components.bilingual
    else:
        change(config)
    with pytest.raises(ValueError, match=message):
        pack.main(config)
    assert not pathlib.Path(config.pack.folder).exists()


def test_foreign_files_and_lost_shards_are_not_touched(make_config, tmp_path):
    config = make_config("rows", ["monolingual"])
    thesis = tmp_path / "rows" / "monolingual" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    with pytest.raises(ValueError, match="monolingual holds files but no rows; move them away"):
        pack.main(config)
    thesis.rename(tmp_path / "thesis.txt")
    pack.main(config)
    (tmp_path / "rows" / "monolingual" / "rows-00000-of-00001.arrayrecord").unlink()
    with pytest.raises(ValueError, match="shard .*monolingual/rows-00000-of-00001.arrayrecord is missing"):
        pack.main(config)


def test_a_mistake_ends_the_program_in_one_sentence(make_config, tmp_path):
    result = run_program(make_config(), tmp_path, "--config.pack.row_length=1")
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1] == "error: config.pack.row_length is 1; it must be 2 or more"
    assert "Traceback" not in result.stderr


def test_what_a_worker_meets_reaches_the_user_as_a_sentence(make_config, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "rows.arrayrecord")

    monkeypatch.setattr(pack_stages.store, "write_shard", full)
    with pytest.raises(ValueError, match=r"^\[Errno 28\] No space left on device: 'rows.arrayrecord'$"):
        pack.main(make_config("rows", ["monolingual"]))


def test_one_process_imports_everything():
    program = "import seqio, apache_beam, tensorflow, orbax.checkpoint, grain"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_buckets_of_the_exchange_hold_every_document_once(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "CHUNK_IDS", 50)
    rng = np.random.default_rng(0)
    written = []
    for part in (0, 3):
        documents = [(part + i % 2, rng.integers(0, 9, rng.integers(2, 12)).astype(np.int32)) for i in range(60)]
        exchange.write(tmp_path, part, documents, num_buckets=7, seed=1)
        assert exchange.count_finished(tmp_path) == part // 3
        exchange.finish(tmp_path, part, {part: dict(documents=60)})
        written += documents
    exchange.write(tmp_path, 9, written, num_buckets=7, seed=1)  # not finished: not there
    buckets = [exchange.read_bucket(tmp_path, bucket, seed=1) for bucket in range(7)]

    def listed(documents):
        return sorted((task, ids.tolist()) for task, ids in documents)

    assert listed(document for bucket in buckets for document in bucket) == listed(written)
    assert all(5 < len(bucket) < 35 for bucket in buckets)
    assert {task for task, _ in buckets[0][:8]} & {0, 1} and {task for task, _ in buckets[0][:8]} & {3, 4}
    assert exchange.counts(tmp_path) == {0: {"documents": 60}, 3: {"documents": 60}}


def test_sizes_are_estimated_from_a_sample_and_the_manifest(packed, monkeypatch):
    job = pack_draws.Job("", packed.corpus.folder, packed.tokenizer.folder, pack.sections(packed))
    monkeypatch.setattr(sizes, "SAMPLE_RECORDS", 10)
    opened = pack_draws.open_tasks(job)
    for component in ("monolingual", "bilingual"):
        for task in store.load(packed.pack.folder, component).tasks:
            size = opened.sizes[task.name]
            found = sizes.measured(opened.corpus, opened.tokenizer, packed.rendering, task.name, size)
            assert found.tokens == pytest.approx(task.tokens, rel=0.15)
