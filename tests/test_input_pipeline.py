"""The sequence of rows: the same for any number of hosts and from any step, and in the declared shares of tokens."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from emma_jax import input_pipeline, packing, store

LENGTH = 16
TOKENIZER = hashlib.sha256(b"tokenizer").hexdigest()


def write_store(folder, component: str, sizes: list[int], tasks: list[str], num_shards: int = 3, **changes):
    """A store whose documents have as many targets as `sizes` says; ids are numbered through the component."""
    path = folder / component
    path.mkdir(parents=True)
    numbers = iter(range(10**6))
    documents = [
        (index % len(tasks), np.array([next(numbers) for _ in range(size + 1)])) for index, size in enumerate(sizes)
    ]
    rows = list(packing.best_fit(documents, LENGTH, window=8))
    shards = tuple(
        store.write_shard(str(path / f"rows-{n:05}-of-{num_shards:05}.arrayrecord"), rows[n::num_shards])
        for n in range(num_shards)
    )
    found = store.Store(
        component=component,
        fingerprint=hashlib.sha256(component.encode()).hexdigest(),
        tokenizer=TOKENIZER,
        vocab_size=10**6,
        row_length=LENGTH,
        rows=len(rows),
        tokens=sum(sizes),
        fill=sum(sizes) / len(rows) / LENGTH,
        shards=shards,
        tasks=tuple(
            store.Task(name, len(sizes[n :: len(tasks)]), sum(sizes[n :: len(tasks)]), 10 * n)
            for n, name in enumerate(tasks)
        ),
    )
    store.write(folder, store.dataclasses.replace(found, **changes))
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    write_store(folder, "bilingual", rng.integers(9, 15, 300).tolist(), ["pair.a", "pair.b"])  # badly filled rows
    write_store(folder, "monolingual", rng.integers(1, 8, 400).tolist(), ["mono.a", "mono.b", "mono.c"])
    write_store(folder, "english", [5] * 20, ["mono.b"], num_shards=1)
    return folder


WEIGHTS = {"bilingual": 32.3, "monolingual": 26.3}


def take(iterator, number):
    return [batch for _, batch in zip(range(number), iterator, strict=False)]


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_batches_have_the_arrays_of_the_rows(folder):
    rows = input_pipeline.open_rows(folder, {"english": 1.0})
    batch = next(rows.batches(4, seed=1))
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        name: ((4, LENGTH), np.int32) for name in ("tokens", "targets", "segments", "positions", "tasks")
    }
    # Ids are consecutive in a document of this fixture.
    used = batch["segments"] > 0
    np.testing.assert_array_equal(batch["targets"][used], batch["tokens"][used] + 1)
    assert set(batch["tasks"][used]) == {0}
    assert set(batch["tasks"][~used]) == {-1}


@pytest.mark.parametrize("num_blocks", [2, 4])
def test_blocks_side_by_side_are_the_batch(folder, num_blocks):
    rows = input_pipeline.open_rows(folder, WEIGHTS)
    whole = take(rows.batches(8, seed=3), 40)
    blocks = [take(rows.batches(8, seed=3, block=b, num_blocks=num_blocks), 40) for b in range(num_blocks)]
    for step, batch in enumerate(whole):
        parts = [block[step] for block in blocks]
        assert_equal(batch, {name: np.concatenate([part[name] for part in parts]) for name in batch})


@pytest.mark.parametrize("start", [3, 50])
def test_starting_at_a_step_continues_the_sequence(folder, start):
    rows = input_pipeline.open_rows(folder, WEIGHTS)
    straight = take(rows.batches(8, seed=3), start + 5)[start:]
    for batch, expected in zip(take(rows.batches(8, seed=3, start_step=start), 5), straight, strict=True):
        assert_equal(batch, expected)
    second_half = take(rows.batches(8, seed=3, start_step=start, block=1, num_blocks=2), 5)
    for batch, expected in zip(second_half, straight, strict=True):
        assert_equal(batch, {name: array[4:] for name, array in expected.items()})


def test_far_steps_are_reached_without_what_comes_before(folder, monkeypatch):
    rows = input_pipeline.open_rows(folder, WEIGHTS)
    reads = []
    read = input_pipeline.packing.decode_row
    monkeypatch.setattr(input_pipeline.packing, "decode_row", lambda record: reads.append(1) or read(record))
    next(rows.batches(8, seed=3, start_step=10**7))
    assert len(reads) < 8 * 8


def test_each_round_reads_every_row_once_in_another_order(folder):
    rows = input_pipeline.open_rows(folder, {"english": 1.0})
    size = rows.stores[0].rows
    first, second = take(rows.batches(size, seed=0), 2)
    assert sorted(first["tokens"].tolist()) == sorted(second["tokens"].tolist())
    assert first["tokens"].tolist() != second["tokens"].tolist()
    assert len({tuple(row) for row in first["tokens"].tolist()}) == size


def test_seeds_give_other_orders(folder):
    rows = input_pipeline.open_rows(folder, WEIGHTS)
    first, second = (next(rows.batches(8, seed=seed))["tokens"] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_realised_shares_are_of_tokens(folder):
    rows = input_pipeline.open_rows(folder, WEIGHTS)
    fills = {found.component: found.fill for found in rows.stores}
    assert fills["monolingual"] > 1.2 * fills["bilingual"], "rows must differ in fill, or rows and tokens are the same"
    counts = np.zeros(len(rows.task_names))
    num_rows = 0
    for batch in take(rows.batches(64, seed=0), 300):
        counts += np.bincount(batch["tasks"][batch["tasks"] >= 0], minlength=len(counts))
        num_rows += 64
    bilingual = sum(count for name, count in zip(rows.task_names, counts, strict=True) if name.startswith("pair."))
    assert bilingual / counts.sum() == pytest.approx(32.3 / (32.3 + 26.3), rel=0.01)
    assert counts.sum() / num_rows == pytest.approx(rows.tokens_per_row, rel=0.01)


def test_a_task_of_two_components_has_one_name(folder):
    rows = input_pipeline.open_rows(folder, {"english": 1.0, "monolingual": 1.0})
    assert sorted(rows.task_names) == ["mono.a", "mono.b", "mono.c"]
    seen = np.concatenate([batch["tasks"].ravel() for batch in take(rows.batches(8, seed=0), 20)])
    counts = np.bincount(seen[seen >= 0])
    assert counts[rows.task_names.index("mono.b")] > 0.5 * counts.sum()
    assert rows.task_bytes == {"mono.a": 0, "mono.b": 10, "mono.c": 20}


def test_interleaving_is_exact_for_far_indices():
    mix = input_pipeline._Interleaved((3.0, 1.3279, 0.01))
    start = 10**15
    chosen = [mix[index] for index in range(start, start + 43379)]
    for number, expected in enumerate((30000, 13279, 100)):
        elements = [element for which, element in chosen if which == number]
        assert elements == list(range(elements[0], elements[0] + len(elements)))
        assert abs(len(elements) - expected) <= 1


def test_validation_reads_every_row_once_and_pads_the_last_batch(folder):
    rows = input_pipeline.open_rows(folder, {"english": 1.0})
    size = rows.stores[0].rows
    batches = list(rows.validation_batches(4))
    assert len(batches) == -(-size // 4)
    tokens = np.concatenate([batch["tokens"] for batch in batches])
    segments = np.concatenate([batch["segments"] for batch in batches])
    assert tokens.shape == (4 * len(batches), LENGTH)
    assert len({tuple(row) for row in tokens[:size].tolist()}) == size
    assert not segments[size:].any()
    assert segments[:size].any(axis=1).all()
    halves = [list(rows.validation_batches(4, block=b, num_blocks=2)) for b in (0, 1)]
    np.testing.assert_array_equal(halves[1][0]["tokens"], batches[0]["tokens"][2:])


def test_fingerprint_is_of_stores_and_weights(folder):
    def fingerprint(weights):
        return input_pipeline.open_rows(folder, weights).fingerprint

    assert fingerprint(WEIGHTS) == fingerprint(dict(reversed(WEIGHTS.items())))
    assert fingerprint(WEIGHTS) != fingerprint({**WEIGHTS, "bilingual": 32.4})
    assert fingerprint({"english": 1.0}) != fingerprint({"monolingual": 1.0})


def test_mistakes_are_said_before_a_shard_is_opened(folder, tmp_path):
    def refused(match, *args, **kwargs):
        with pytest.raises(ValueError, match=match):
            input_pipeline.open_rows(*args, **kwargs)

    refused("no rows of the component 'code'.*bilingual, english, monolingual", folder, {"code": 1.0})
    refused("none", tmp_path, {"code": 1.0})
    refused("mixture is empty", folder, {})
    refused("weight 0", folder, {"english": 0})
    refused("another|packed with the tokenizer", folder, {"english": 1.0}, tokenizer_fingerprint="f" * 64)
    refused("have 16 tokens, not 32", folder, {"english": 1.0}, row_length=32)
    with pytest.raises(ValueError, match="batch of 10 rows does not divide over 4 hosts; nearest: 8 and 12"):
        input_pipeline.open_rows(folder, WEIGHTS).batches(10, seed=0, num_blocks=4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: (path / "rows-00001-of-00003.arrayrecord").unlink(),
            "rows-00001-of-00003.arrayrecord is missing",
        ),
        (
            lambda path: (path / "rows-00002-of-00003.arrayrecord").write_bytes(
                (path / "rows-00002-of-00003.arrayrecord").read_bytes()[:-100]
            ),
            "rows-00002-of-00003.arrayrecord has .* bytes and store.json says",
        ),
        (
            lambda path: (path / "store.json").write_text((path / "store.json").read_text()[:-40]),
            "store.json is damaged",
        ),
        (lambda path: (path / "store.json").write_text("{}"), "store.json is damaged"),
        (
            lambda path: (path / "store.json").write_text(
                json.dumps({**json.loads((path / "store.json").read_text()), "version": 1})
            ),
            "has version 1 and this code reads 2",
        ),
        (
            lambda path: (path / "store.json").write_text(
                json.dumps({**json.loads((path / "store.json").read_text()), "rows": 0})
            ),
            "has no rows",
        ),
    ],
)
def test_damaged_stores_are_named(tmp_path, damage, message):
    write_store(tmp_path, "code", [3] * 30, ["code.a"])
    input_pipeline.open_rows(tmp_path, {"code": 1.0})
    damage(tmp_path / "code")
    with pytest.raises(ValueError, match=message):
        input_pipeline.open_rows(tmp_path, {"code": 1.0})


def test_reading_needs_no_tensorflow_and_no_parsed_flags(folder):
    program = (
        "import sys; from emma_jax import input_pipeline\n"
        f"rows = input_pipeline.open_rows({str(folder)!r}, {{'english': 1.0}})\n"
        "next(rows.batches(4, seed=0)), list(rows.validation_batches(4))\n"
        "assert not {'tensorflow', 'seqio', 'apache_beam'} & set(sys.modules), 'a training host has none of these'"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
