"""Rule `paper` of SIB-200 and Taxi-1500 against a short reference: the published rule on a transformers Llama."""

import functools
import pathlib
import random

import numpy as np
import pytest
import random_model
import tokenizers

from emma_jax import tokenizer
from emma_jax.evaluation import benchmarks
from emma_jax.evaluation.tasks import topics

DATA = pathlib.Path(__file__).parent / "fixtures" / "benchmarks"
VERSES = pytest.param("taxi1500", "eng_Latn", id="taxi1500")
NEWS = [pytest.param("sib200", code, id=f"sib200 {code}") for code in ("eng_Latn", "swh_Latn")]


def write_tokenizer(folder, vocab_size: int):
    """Byte-pair encoding over bytes that has seen the labels: the more ids, the longer their last tokens."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"]
    )
    labels = " ".join((*topics.SIB200.labels, *topics.TAXI1500.labels))
    trained.train_from_iterator([f" {labels}"] * 9 + [path.read_text() for path in DATA.glob("sib200/*/*")], trainer)
    trained.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')


@pytest.fixture(scope="module")
def llama():
    """A function from ids to the logits of each position, of a random model."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.4,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()

    @functools.lru_cache(maxsize=64)
    def logits(ids):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].double().numpy()

    return lambda ids: logits(tuple(ids))


def published(form, rows, test_rows, encode, logits):
    """The labels that the published rule gives the test rows."""
    pandas = pytest.importorskip("pandas")
    train = pandas.DataFrame(rows)
    generator = random.Random(42)
    predictions = []
    for row in test_rows:
        shots = train.sample(n=3, random_state=generator.randint(0, 1000)).to_dict("records")
        shown = "\n".join(form.shot.format(**shot) for shot in shots)
        text = f"{form.heading}\n\n{shown}\n{form.query.format(text=row['text'])}\n"
        last = logits([0, *encode(text)])[-1]
        predictions.append(max((last[encode(f" {label}")[-1]], label) for label in form.labels)[1])
    return predictions


def log_likelihood(context, continuation, encode, logits):
    """log p(continuation | context) as the harness asks for it: white space before a continuation belongs to it."""
    moved = context[len(context.rstrip()) :] + continuation
    before = [0, *encode(context.rstrip())]
    ids = [0, *encode(context.rstrip() + moved)]
    assert ids[: len(before)] == before
    all_logits = logits(ids[:-1])[len(before) - 1 :]
    logs = all_logits - np.logaddexp.reduce(all_logits, axis=-1, keepdims=True)
    return sum(logs[at, id_] for at, id_ in enumerate(ids[len(before) :]))


@random_model.needs_torch
@pytest.mark.parametrize("vocab_size", [258, 600], ids=["letters", "words"])
@pytest.mark.parametrize(("benchmark", "language"), [*NEWS, VERSES])
def test_rule_paper_is_the_published_one(tmp_path, llama, benchmark, language, vocab_size):
    write_tokenizer(tmp_path, vocab_size)
    encode = tokenizer.load(tmp_path).encode
    form = {"sib200": topics.SIB200, "taxi1500": topics.TAXI1500}[benchmark]
    chosen = benchmarks.select([benchmark], [language], str(DATA))[0]
    assert chosen.rule == "paper"
    manager = benchmarks.TaskManager(include_defaults=False, metadata={"tokenizer": str(tmp_path)})
    task = manager.load([chosen.config])["tasks"][chosen.name]

    train, test = read(benchmark, language, "train"), read(benchmark, language, "test")
    expected = published(form, train, test, encode, llama)
    assert len(set(expected)) > 1
    pieces = {encode(f" {label}")[-1] for label in form.labels}
    assert (len(pieces) < len(form.labels)) == (vocab_size == 258)  # letters: labels that cannot be told apart

    labels = sorted(form.labels, reverse=True)
    for row, label in zip(task.eval_docs, expected, strict=True):
        requests = task.construct_requests(row, task.fewshot_context(row, 0), metadata=(chosen.name, 0, 1))
        scored = [(log_likelihood(*request.args, encode, llama), False) for request in requests]
        assert labels[int(np.argmax([score for score, _ in scored]))] == label
        assert task.process_results(row, scored)["acc"] == (label == row["category"])


def read(benchmark, language, split):
    """The rows of a split, as the published scripts read them."""
    pandas = pytest.importorskip("pandas")
    if benchmark == "sib200":
        return pandas.read_csv(DATA / benchmark / language / f"{split}.tsv", delimiter="\t").to_dict("records")
    table = pandas.read_csv(
        DATA / benchmark / language / f"{language}_{split}.tsv", delimiter="\t", names=["id", "category", "text"]
    )
    return table.to_dict("records")


@pytest.mark.parametrize("named", ["{}", "{}@40", "{}/tokenizer"])
def test_the_tokenizer_of_a_workdir_is_found(tmp_path, named):
    (tmp_path / "run" / "tokenizer").mkdir(parents=True)
    write_tokenizer(tmp_path / "run" / "tokenizer", 258)
    rows = [{"category": "travel", "text": "one"}] * 3
    metadata = {"pretrained": named.format(tmp_path / "run")}
    assert topics._dataset(topics.SIB200, "paper", rows, rows[:1], metadata)["test"][0]["choices"][0] == "l"


def test_labels_that_end_alike_are_the_last_of_the_alphabet(tmp_path):
    write_tokenizer(tmp_path, 258)
    rows = [{"category": "sports", "text": "one"}] * 3
    (row,) = topics._dataset(topics.SIB200, "paper", rows, rows[:1], {"tokenizer": str(tmp_path)})["test"]
    labels = sorted(topics.SIB200.labels, reverse=True)
    alike = [label for label, choice in zip(labels, row["choices"], strict=True) if choice == "s"]
    assert alike == ["sports", "politics"]
    assert labels[row["label"]] == "sports"


def test_a_tokenizer_that_joins_lines_and_words_is_refused():
    def encode(text):
        return [len(text)]

    with pytest.raises(ValueError, match="rule paper cannot be asked; choose rule robust"):
        topics.last_pieces(["Faith"], encode)


def test_too_few_rows_for_shots_are_refused():
    with pytest.raises(ValueError, match="sib200 has 2 rows to draw 3 shots from"):
        topics._dataset(topics.SIB200, "robust", [{}, {}], [{}], {})
