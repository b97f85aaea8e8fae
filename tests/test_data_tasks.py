"""Every record becomes exactly one part of one document in each direction, unaltered, between BOS and EOS."""

import collections
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import seqio
import synthetic
import tensorflow as tf
import tiny_corpus

import data_tasks
from configs import base, bilingual
from data_tasks import inspect, mixtures, rendering, sizes, tasks
from data_tasks.vocabulary import TokenizerVocabulary
from emma_jax import paper_corpus, tokenizer, train_tokenizer

PAIR = "pair.eng_Latn-swh_Latn"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tokenizer for all scripts of the tiny corpus."""
    folder = tmp_path_factory.mktemp("tokenizer")
    lines = [line for code in tiny_corpus.SENTENCES for line in tiny_corpus.sentences(code, 60)]
    train_tokenizer.write(folder, train_tokenizer.train(lines, 1200, 0.9995), {})
    return tokenizer.load(folder)


@pytest.fixture
def register(trained):
    """A function that registers a corpus and returns the names; keywords change config.rendering."""

    def register(corpus, mixture=None, components=None, text=trained, **changes):
        config = base.get_config()
        config.rendering.update(changes)
        return data_tasks.register(corpus, text, config.rendering, mixture=mixture or {}, components=components or {})

    return register


def pairs_corpus(folder, number, rows_per_file=10**9, validation=3):
    """A corpus of one pair whose i-th sentences are "source i" and "target i"."""
    rows = {
        "train": tuple([f"{side} {i}" for i in range(number)] for side in ("source", "target")),
        "validation": tuple([f"{side} v{i}" for i in range(validation)] for side in ("source", "target")),
    }
    return tiny_corpus.write(folder, {}, {"eng_Latn-swh_Latn": rows}, rows_per_file)


def documents(trained, name=PAIR, split="train", seed=None, **keywords) -> list[tuple[int, list[str]]]:
    """Direction and lines of each document."""
    return [
        (int(example.get("direction", -1)), trained.decode(example["targets"]).split("\n")[:-1])
        for example in tasks.examples(name, split, seed, **keywords)
    ]


def numbers(lines: list[str]) -> list[str]:
    """Which pairs the lines are of; each must be there with both sides."""
    found = [line.split()[-1] for line in lines]
    assert found[::2] == found[1::2]
    return found[::2]


def test_ten_pairs_make_a_document_in_each_direction(register, trained, tmp_path):
    register(pairs_corpus(tmp_path, 23))
    found = documents(trained)
    assert [direction for direction, _ in found] == [0, 1] * 3
    assert found[0][1][:3] == [
        "[English]: source 0",
        "[Swahili (individual language)]: target 0",
        "[English]: source 1",
    ]
    for (_, forward), (_, backward) in zip(found[::2], found[1::2], strict=True):
        assert forward[::2] == backward[1::2]
        assert forward[1::2] == backward[::2]
    for direction in (0, 1):
        groups = [numbers(lines) for way, lines in found if way == direction]
        assert [len(group) for group in groups] == [10, 10, 3]
        assert sum(groups, []) == [str(i) for i in range(23)]


@pytest.mark.parametrize("number", [1, 10, 2559, 2560, 2561])
def test_no_pair_is_lost_or_doubled_at_the_edge_of_a_batch(register, trained, tmp_path, number):
    register(pairs_corpus(tmp_path, number))
    found = documents(trained)
    for direction in (0, 1):
        groups = [numbers(lines) for way, lines in found if way == direction]
        assert sum(groups, []) == [str(i) for i in range(number)]
        assert {len(group) for group in groups[:-1]} <= {10}


def test_labels_and_template_are_those_of_the_config(register, trained, tmp_path):
    register(
        pairs_corpus(tmp_path, 2), language_label="code", pair_line="{language} {{{text}}}|\n", pairs_per_document=1
    )
    assert documents(trained)[0] == (0, ["eng_Latn {source 0}|", "swh_Latn {target 0}|"])


def test_every_kind_of_document_has_a_template(register, trained, tmp_path):
    collections = {
        "code.stack": ["def f():\n\treturn 1\n"],
        "paper.peS2o": ["Abstract. We ask."],
        "instruction.code-instruct": ["Say hi.\n\nHi!"],
        "book.books": ["It was night.\r\n\r\nCall me."],
    }
    corpus = tiny_corpus.write(
        tmp_path,
        {"swh_Latn": {"train": ["moja\nmbili"]}},
        collections={name: {"train": texts} for name, texts in collections.items()},
    )
    register(corpus)
    for name, texts in collections.items():
        assert [trained.decode(example["targets"]) for example in tasks.examples(name, "train")] == texts
    documents = dict(
        mono="{language}:\n{text}", code="```\n{text}```", paper="{text}\n\n", instruction="User: {text}", book="{text}"
    )
    register(corpus, documents=documents)
    for name, texts in (collections | {"mono.swh_Latn": ["moja\nmbili"]}).items():
        template = documents[name.partition(".")[0]].replace("{language}", "Swahili (individual language)")
        (example,) = tasks.examples(name, "train")
        expected = template.replace("{text}", texts[0])
        assert trained.decode(example["targets"]) == expected
        assert example["bytes"] == len(expected)
        config = base.get_config()
        config.rendering.documents.update(documents)
        size = sizes.of_corpus(corpus, config.rendering)[name]
        assert (size.documents, size.bytes, size.bytes - size.template_bytes) == (1, len(expected), len(texts[0]))


def test_direction_is_a_matter_of_training_only(register, trained, tmp_path):
    corpus = pairs_corpus(tmp_path, 400)
    register(corpus, direction="stored")
    assert [way for way, _ in documents(trained)] == [0] * 40
    register(corpus, direction="random")
    found = documents(trained, seed=3)
    assert 8 < sum(way for way, _ in found) < 32
    assert sorted(sum((numbers(lines) for _, lines in found), []), key=int) == [str(i) for i in range(400)]
    assert found == documents(trained, seed=3)
    for policy in rendering.DIRECTIONS:
        register(corpus, direction=policy)
        assert [way for way, _ in documents(trained, split="validation")] == [0, 1]


def test_texts_are_unaltered_but_for_line_breaks(register, trained, tmp_path):
    odd = [
        "  two  spaces ",
        "{text} {language} %s \\1 \\n",
        "\ttab\x00\x07",
        "e\u0301\u00e9 \U0001f468\u200d\U0001f469",
        "!" * 50,
    ]
    broken = ["a\nb", "a\r\n\n[English]: b"]
    texts = odd + broken
    corpus = tiny_corpus.write(
        tmp_path, {"eng_Latn": {"train": texts}}, {"eng_Latn-swh_Latn": {"train": (texts, texts[::-1])}}
    )
    register(corpus, language_label="code", pairs_per_document=100)
    rendered = odd + ["a b", "a [English]: b"]
    lines = documents(trained)[0][1]
    assert lines[::2] == [f"[eng_Latn]: {text}" for text in rendered]
    assert lines[1::2] == [f"[swh_Latn]: {text}" for text in rendered[::-1]]
    mono = [trained.decode(example["targets"]) for example in tasks.examples("mono.eng_Latn", "train")]
    assert mono == texts


def test_targets_are_bos_ids_eos_and_nothing_is_trimmed_or_taken_for_padding(register, tmp_path):
    synthetic.write_tokenizer(tmp_path / "tokenizer")
    text = tokenizer.load(tmp_path / "tokenizer")
    texts = ["!", "!a!!", "!" * 5000, "a!"]
    register(tiny_corpus.write(tmp_path, {"eng_Latn": {"train": texts, "validation": []}}), text=text)
    expected = [[text.bos_id, *text.encode(line), text.eos_id] for line in texts]
    assert expected[1][1] == 0
    task = seqio.get_mixture_or_task("mono.eng_Latn")
    dataset = task.get_dataset(sequence_length=None, split="train", shuffle=False)
    found = list(dataset.as_numpy_iterator())
    assert [example["targets"].tolist() for example in found] == expected
    assert [int(example["bytes"]) for example in found] == [len(line.encode()) for line in texts]
    assert all(example["targets"].dtype == np.int32 for example in found)
    assert [example["targets"].tolist() for example in tasks.examples("mono.eng_Latn", "train")] == expected
    assert list(tasks.examples("mono.eng_Latn", "validation")) == []


def test_bytes_are_those_of_the_rendered_text(register, trained, tmp_path):
    register(tiny_corpus.standard(tmp_path))
    for name in ("mono.amh_Ethi", "pair.rus_Cyrl-zho_Hani"):
        for example in tasks.examples(name, "train"):
            assert example["bytes"] == len(trained.decode(example["targets"]).encode())


def test_an_epoch_is_given_by_its_seed_and_groups_other_pairs(register, trained, tmp_path):
    register(pairs_corpus(tmp_path, 200, rows_per_file=30))

    def epoch(seed):
        return [numbers(lines) for way, lines in documents(trained, seed=seed) if way == 0]

    first, again, other = epoch(1), epoch(1), epoch(2)
    assert first == again != other
    assert sorted(sum(first, []), key=int) == sorted(sum(other, []), key=int) == [str(i) for i in range(200)]
    assert not {frozenset(group) for group in first} & {frozenset(group) for group in other}
    # Files are read one after the other, but pairs of different files meet.
    assert max(len({int(i) // 30 for i in group}) for group in first) > 3


@pytest.mark.parametrize("num_parts", [2, 5, 11])
def test_parts_are_disjoint_and_complete(register, trained, tmp_path, num_parts):
    register(pairs_corpus(tmp_path, 100, rows_per_file=20))
    assert len(seqio.TaskRegistry.get(PAIR).source.list_shards("train")) == 5
    parts = [documents(trained, seed=4, part=part, num_parts=num_parts) for part in range(num_parts)]
    found = [numbers(lines) for way, lines in itertools.chain.from_iterable(parts) if way == 0]
    assert sorted(sum(found, []), key=int) == [str(i) for i in range(100)]
    assert all(parts)


def test_examples_are_those_of_the_task(register, tmp_path):
    register(tiny_corpus.standard(tmp_path, rows=300))
    for name, seed in itertools.product(("mono.tha_Thai", PAIR), (None, 5)):
        dataset = seqio.get_mixture_or_task(name).get_dataset(
            split="train", shuffle=seed is not None, seed=seed, try_in_mem_cache=False
        )
        expected = list(dataset.as_numpy_iterator())
        found = list(tasks.examples(name, "train", seed))
        assert len(found) == len(expected) >= 60
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_tasks_are_those_of_the_manifest(register, tmp_path):
    corpus = tiny_corpus.standard(tmp_path)
    names = register(corpus)
    assert set(names.tasks) == {f"mono.{c}" for c in corpus.languages} | {f"pair.{p}" for p in corpus.pairs}
    assert names.mixtures == ()
    task = seqio.TaskRegistry.get(PAIR)
    assert sorted(task.splits) == ["train", "validation"]
    assert (task.num_input_examples("train"), task.num_input_examples("validation")) == (40, 5)


def test_registering_again_changes_nothing_and_otherwise_replaces_all(register, tmp_path):
    corpus = tiny_corpus.standard(tmp_path / "a")
    component = {"all": base.component("mono.*", 1000)}
    first = register(corpus, {"all": 1.0}, component)
    task = seqio.TaskRegistry.get(PAIR)
    assert register(corpus, {"all": 1.0}, component) == first
    assert seqio.TaskRegistry.get(PAIR) is task
    second = register(pairs_corpus(tmp_path / "b", 5))
    assert second == data_tasks.Registered((PAIR,), ())
    assert seqio.TaskRegistry.get(PAIR) is not task
    assert not set(first.tasks + first.mixtures) - {PAIR} & {
        *seqio.TaskRegistry.names(),
        *seqio.MixtureRegistry.names(),
    }
    seqio.TaskRegistry.reset()
    register(pairs_corpus(tmp_path / "b", 5))
    assert PAIR in seqio.TaskRegistry.names()


def test_mixtures_realise_shares_of_tokens(register, tmp_path):
    synthetic.write_tokenizer(tmp_path / "tokenizer")  # an id for each character but the space
    text = tokenizer.load(tmp_path / "tokenizer")
    texts = {
        "eng_Latn": {"train": ["e" * (500 + i) for i in range(200)]},
        "deu_Latn": {"train": ["d" * (50 + i) for i in range(100)]},
    }
    sides = (["p" * 80] * 100, ["q" * 90] * 100)
    corpus = tiny_corpus.write(tmp_path, texts, {"deu_Latn-eng_Latn": {"train": sides}})
    components = {
        "long": base.component("mono.eng_Latn", 1000),
        "short": base.component("mono.deu_Latn", 1000),
        "parallel": base.component("pair.*", 1000),
    }
    shares = {"long": 20.0, "short": 30.0, "parallel": 50.0}
    names = register(corpus, shares, components, text, pair_line="[{language}]:{text}|", pairs_per_document=2)
    assert names.mixtures == (*(f"component.{name}" for name in components), "monolingual", "bilingual")

    def realised(mixture: str, num_documents: int) -> dict[str, float]:
        dataset = seqio.MixtureRegistry.get(mixture).get_dataset(split="train", seed=0, try_in_mem_cache=False)
        tokens = collections.Counter()
        for example in itertools.islice(dataset.as_numpy_iterator(), num_documents):
            kind = {"e": "long", "d": "short", "[": "parallel"}[text.decode(example["targets"][:2])]
            tokens[kind] += len(example["targets"]) - 1
        return {kind: number / tokens.total() for kind, number in tokens.items()}

    # Drawn by documents instead, 20 : 30 : 50 would be 45 : 11 : 44 of the tokens.
    assert realised("bilingual", 12000) == pytest.approx({"long": 0.2, "short": 0.3, "parallel": 0.5}, rel=0.08)
    assert realised("monolingual", 12000) == pytest.approx({"long": 0.4, "short": 0.6}, rel=0.08)
    assert realised("component.parallel", 10) == {"parallel": 1.0}


def test_rates_follow_sizes_temperature_and_epochs():
    found = {
        "mono.a": sizes.Size(10, 40 * 99),
        "mono.b": sizes.Size(1000, 400 * 9),
        "pair.c": sizes.Size(0, 0),
    }
    section = base.component("mono.*", 100, temperature=2.0)
    rates = mixtures.rates(found, {}, {}, {"x": section})["component.x"]
    tokens = {task: rate * found[task].tokens / found[task].documents for task, rate in rates.items()}
    assert sum(tokens.values()) == pytest.approx(1)
    ratio = (found["mono.a"].tokens / found["mono.b"].tokens) ** 0.5
    assert tokens["mono.a"] / tokens["mono.b"] == pytest.approx(ratio)
    section.update(tokens=2500, max_epochs=1.0)
    rates = mixtures.rates(found, {}, {}, {"x": section})["component.x"]
    assert rates["mono.a"] == pytest.approx(10 / 2500)
    with pytest.raises(ValueError, match="components.x has no documents"):
        mixtures.rates(found, {}, {}, {"x": base.component("pair.*", 100)})


def test_sizes_are_estimated_from_the_manifest(register, tmp_path):
    for direction in rendering.DIRECTIONS:
        config = base.get_config()
        config.rendering.direction = direction
        corpus = tiny_corpus.standard(tmp_path, rows=44)
        register(corpus, direction=direction)
        for name in (PAIR, "mono.kor_Hang"):
            found = list(tasks.examples(name, "train", seed=0))
            size = sizes.of_corpus(corpus, config.rendering)[name]
            assert size.documents == len(found)
            if direction != "random" or name != PAIR:
                assert size.bytes == sum(example["bytes"] for example in found)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(direction="forth"), "direction is 'forth'; it can be both, random, stored"),
        (dict(language_label="flag"), "language_label is 'flag'; it can be name, code"),
        (dict(pairs_per_document=0), "pairs_per_document is 0"),
        (dict(pair_line="{language}\n"), "must name {text} once"),
        (dict(pair_line="{lang}: {text}\n"), "no template of {language} and {text}"),
        (dict(pair_line="[{language: {text}\n"), "no template of {language} and {text}"),
        (dict(documents=dict(code="{language} {text}")), "documents.code '{language} {text}' is no template of {text}"),
        (dict(documents=dict(mono="{language}")), "documents.mono '{language}' must name {text} once"),
        (dict(pair_line="{text}\n"), "both languages of pair.deu_Latn-eng_Latn are called"),
        (dict(components={"e": base.component("mono.eng_Latm", 9)}), "matches no task .*; is mono.eng_Latn meant"),
        (dict(mixture={"englsh": 1.0}, components={"english": base.component("mono.*", 9)}), "is english meant"),
        (dict(mixture={"e": 0.0}, components={"e": base.component("mono.*", 9)}), "mixture.e is 0.0; a share must be"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(register, tmp_path, arguments, message):
    corpus = tiny_corpus.standard(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        register(corpus, **arguments)
    assert "\n" not in str(raised.value)


def test_a_shard_that_cannot_be_read_is_named(register, tmp_path):
    corpus = pairs_corpus(tmp_path, 100)
    register(corpus)
    shard = tmp_path / "bilingual/eng_Latn-swh_Latn/train-00000-of-00001.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{shard.name} is missing or damaged"):
        next(tasks.examples(PAIR, "train"))
    shard.unlink()
    with pytest.raises(ValueError, match=f"{shard.name} is missing or damaged"):
        next(tasks.examples(PAIR, "train"))
    with pytest.raises(ValueError, match="no split 'test'; there are train, validation"):
        next(tasks.examples(PAIR, "test"))


def test_the_vocabulary_is_the_tokenizer_in_both_worlds(trained):
    vocabulary = TokenizerVocabulary(trained)
    text = "Watu wote wamezaliwa huru! 人人生而自由"
    ids = vocabulary.encode(text)
    assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids
    assert vocabulary.decode(ids) == vocabulary.decode_tf(tf.constant(ids)).numpy().decode() == text
    ended = tf.constant([[*ids, trained.eos_id, 5], [*ids, 300, 301]])
    assert [decoded.decode() for decoded in vocabulary.decode_tf(ended).numpy()] == [
        text,
        text + trained.decode([300, 301]),
    ]
    assert (vocabulary.vocab_size, vocabulary.pad_id, vocabulary.unk_id) == (1200, None, None)
    assert vocabulary == TokenizerVocabulary(trained)


def test_importing_the_package_imports_no_tensorflow():
    code = (
        "import sys, data_tasks, data_tasks.inspect, data_tasks.mixtures, data_tasks.sizes, emma_jax.pack_budget\n"
        "print('tensorflow' in sys.modules or 'seqio' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.fixture
def inspected(tmp_path):
    """A config whose corpus has a task of every kind, and its tokenizer."""
    config = base.get_config()
    config.corpus.folder, config.tokenizer.folder = str(tmp_path), str(tmp_path / "tokenizer")
    lines = {code: tiny_corpus.sentences(code, 20) for code in ("eng_Latn", "swh_Latn")}
    corpus = tiny_corpus.write(
        tmp_path,
        {code: {"train": texts} for code, texts in lines.items()},
        {"eng_Latn-swh_Latn": {"train": tuple(lines.values())}},
        collections={
            **{f"{kind}.some": {"train": [f"a {kind}"]} for kind in ("code", "paper", "instruction")},
            "book.long": {"train": ["word " * 10_000]},
        },
    )
    sentences = list(train_tokenizer.sentences(corpus, 10**6))
    train_tokenizer.write(tmp_path / "tokenizer", train_tokenizer.train(sentences, 500, 1.0), {})
    return config


def test_inspect_shows_documents_with_ids_and_lengths(inspected, capsys):
    inspect.main(inspected, PAIR)
    shown = capsys.readouterr().out
    first = tiny_corpus.sentences("eng_Latn", 1)[0]
    assert f"{PAIR}: 20 records in train" in shown
    assert f"[English]: {first}\n[Swahili (individual language)]: " in shown
    assert "document 1, eng_Latn to swh_Latn:" in shown and "document 2, swh_Latn to eng_Latn:" in shown
    for document in shown.split("document")[1:]:
        ids = json.loads(f"[{document.split('ids: ')[1].strip().replace(' ', ', ')}]")
        assert tokenizer.load(inspected.tokenizer.folder).decode(ids) in document
        assert f"{len(ids)} ids" in document


def test_inspect_shows_every_kind_and_no_more_than_a_screen(inspected, capsys):
    # Of these the corpus has no task: they are in nobody's way.
    inspected.pack.components.greek = base.component("mono.ell_Grek", 1000)
    for task in ("mono.swh_Latn", "code.some", "paper.some", "instruction.some", "book.long"):
        inspect.main(inspected, task)
    shown = capsys.readouterr().out
    assert "\na instruction\n" in shown and "1 records in train" in shown
    assert "... and 44,000 more characters" in shown and " more ids" in shown
    assert len(shown) < 30_000
    del inspected.pack.components.greek
    inspected.pack.components.all = base.component("*", 1000)
    inspect.main(inspected, "component.all", documents="1")
    assert "component.all: 64 records in train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("pair.eng_Latn-swa_Latn", f"no task 'pair.eng_Latn-swa_Latn' among the 7 of .*; is {PAIR} meant"),
        ("pair.swh_Latn-eng_Latn", f"is {PAIR} meant"),
        ("eng_Latn-swh_Latn", f"is {PAIR} meant"),
        ("swh_Latn", "is mono.swh_Latn meant"),
        ("component.al", "is component.all meant"),
    ],
)
def test_inspect_names_the_task_that_is_meant(inspected, task, message):
    inspected.pack.components.all = base.component("*", 1000)
    with pytest.raises(ValueError, match=message):
        inspect.main(inspected, task)


def test_inspect_refuses_what_is_not_there(inspected):
    with pytest.raises(ValueError, match="no split 'test'"):
        inspect.main(inspected, PAIR, split="test")
    with pytest.raises(ValueError, match="--documents is 'two'"):
        inspect.main(inspected, PAIR, documents="two")
    inspected.corpus.folder = "paper"
    with pytest.raises(ValueError, match="corpus 'paper' has numbers and no documents"):
        inspect.main(inspected, PAIR)


def test_tasks_of_the_whole_paper_are_registered(register):
    config, corpus = bilingual.get_config(), paper_corpus.paper()
    found = register(corpus, config.mixture, mixtures.resolved(config.pack))
    assert len([name for name in found.tasks if name.startswith("mono.")]) == 546
    assert len([name for name in found.tasks if name.startswith("pair.")]) == 2507
    assert found.mixtures == (*(f"component.{name}" for name in config.pack.components), "monolingual", "bilingual")
    task = seqio.get_mixture_or_task("pair.deu_Latn-eng_Latn")
    assert task.num_input_examples("train") == corpus.pairs["deu_Latn-eng_Latn"].splits["train"].rows
    rates = dict(seqio.MixtureRegistry.get("monolingual")._task_to_rate)
    assert not any(name.startswith("pair.") for name in rates)
