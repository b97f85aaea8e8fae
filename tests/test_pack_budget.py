"""A plan says before the work what rows hold after it, and for the paper's corpus it says so at once."""

import html.parser
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import synthetic
import tiny_corpus

from configs import base, bilingual, monolingual, quickstart
from emma_jax import languages, pack, pack_budget, pack_page, pack_summary, paper_corpus, store

# As the paper's tables have them.
PAIRS_BY_CLASS = dict(zip([label for label, _ in languages.PAIR_CLASSES], (4, 83, 67, 281, 508, 655, 909), strict=True))
LANGUAGES_BY_CLASS = dict(zip([label for label, _ in languages.LANGUAGE_CLASSES], (27, 79, 68, 162, 210), strict=False))


def paper(get_config):
    config = get_config()
    config.corpus.folder = paper_corpus.NAME
    return config


@pytest.fixture(scope="module")
def budgets():
    """Those of the paper's two runs."""
    return {
        name: pack_budget.make(paper(config.get_config))
        for name, config in dict(bilingual=bilingual, monolingual=monolingual).items()
    }


def test_budgets_of_the_paper_are_met_to_the_token(budgets):
    for name, tokens in dict(bilingual=671_088_640_000, monolingual=419_430_400_000).items():
        budget = budgets[name]
        assert budget.run_tokens == tokens == pytest.approx(sum(task.run_tokens for _, task in budget.tasks))
        # One set of rows for both: each component has its share of the longer run.
        assert budget.tokens == pytest.approx(671_088_640_000, abs=len(budget.components))
        for component in budget.components:
            assert component.tokens == component.wanted == round(base.MIX_1[component.name] / 100 * 671_088_640_000)
    # Mix 2 sees each document 8% less often, as the paper's comparison has it, and no run reads a row twice.
    for component in budgets["monolingual"].components:
        times = component.run_tokens / component.tokens
        assert times == 0 if component.name == "bilingual" else 0.9 < times < 0.93
    assert all(component.run_tokens == pytest.approx(component.tokens) for component in budgets["bilingual"].components)


def test_tasks_and_classes_are_those_of_the_paper(budgets):
    by_name = {component.name: component for component in budgets["bilingual"].components}
    assert len(budgets["bilingual"].tasks) == 546 + 2507 + 7
    for name, expected in dict(bilingual=PAIRS_BY_CLASS, monolingual=LANGUAGES_BY_CLASS).items():
        assert {label: len(tasks) for label, tasks in by_name[name].by_class().items()} == expected
    assert {name for name, component in by_name.items() if component.assumed} == {
        "code", "paper", "instruction", "book",
    }  # fmt: skip
    epochs = [task.epochs for task in by_name["bilingual"].tasks if task.size > 1e6]
    assert max(epochs) == pytest.approx(min(epochs), rel=1e-5)  # proportional
    assert len([e for e in paper_corpus.paper().pairs.values() if e.splits["train"].tokens == 15]) == 1


def test_sizes_of_the_paper_are_published_ones():
    corpus = paper_corpus.paper()
    rows, tokens = (
        sum(getattr(entry.splits["train"], key) for entry in corpus.pairs.values()) for key in ("rows", "tokens")
    )
    assert (rows, tokens) == (16_287_024_213, 426_882_764_808)
    assert 7.42e10 < sum(entry.splits["train"].tokens for entry in corpus.languages.values()) < 7.43e10
    for code in {code for pair in corpus.pairs for code in pair.split("-")} | set(corpus.languages):
        languages.check(code)


def test_floors_and_caps_change_one_component_only(budgets):
    config = paper(bilingual.get_config)
    config.pack.components.bilingual.update(policy="temperature", temperature=3.0, max_epochs=2.0, min_tokens=10_000)
    changed = {component.name: component for component in pack_budget.make(config).components}
    before = {component.name: component for component in budgets["bilingual"].components}
    assert {name for name in changed if changed[name] != before[name]} == {"bilingual"}
    assert changed["bilingual"].tokens == before["bilingual"].tokens
    for task in changed["bilingual"].tasks:
        assert min(10_000, 2 * task.size) - 1 <= task.tokens <= max(2 * task.size, 1) + 1


def test_the_program_plans_without_tensorflow(tmp_path):
    code = (
        "import sys; from emma_jax import pack; from configs import bilingual\n"
        "config = bilingual.get_config(); config.corpus.folder = 'paper'; config.pack.folder = sys.argv[1]\n"
        "pack.main(config, plan=True)\n"
        "import psutil; print(psutil.Process().memory_info().rss >> 20, file=sys.stderr)\n"
        "print([name for name in ('tensorflow', 'seqio', 'apache_beam', 'jax') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code, tmp_path / "rows"], capture_output=True, text=True, check=True)
    assert int(result.stderr.split()[-1]) < 500  # MB; 135 were measured
    assert result.stdout.splitlines()[-1] == "[]"
    assert "the run reads 671B tokens in 40,000 steps" in result.stdout
    assert {path.name for path in (tmp_path / "rows").iterdir()} == {
        "plan-emma-500-llama3.1-8b-bi.json", "plan-emma-500-llama3.1-8b-bi.html",
    }  # fmt: skip


def test_the_saved_plan_says_what_the_budget_does(budgets):
    budget = budgets["bilingual"]
    saved = json.loads(pack_budget.to_json(budget))
    assert saved["version"] == pack_budget.VERSION
    assert sum(component["tokens"] for component in saved["components"]) == saved["tokens"] == budget.tokens
    assert 0.5e12 < saved["store_bytes"] < saved["exchange_bytes"]
    assert [task["task"] for task in saved["tasks"]] == [task.name for _, task in budget.tasks]
    first = saved["tasks"][0]
    assert first["epochs"] == pytest.approx(first["tokens"] / first["size"], rel=1e-3)
    assert {task["epochs"] for task in saved["tasks"] if task["task"].startswith("code.")} == {None}
    assert saved["validation_slices"] == 546 + 2 * 2507 + 7


class Page(html.parser.HTMLParser):
    """A page's open tags, table rows and dots."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.rows, self.circles = [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.rows += tag == "tr"
        self.circles += tag == "circle"
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_has_every_task_and_draws_those_whose_size_is_known(budgets):
    for budget in budgets.values():
        text = pack_page.html(budget)
        page = Page(text)
        assert not page.open
        assert page.circles == 546 + 2507
        assert page.rows > 3060
        assert ">nan<" not in text and ">inf<" not in text
        assert "https:" not in text and "src=" not in text


LETTERS = list("!!!abcdefgh")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A corpus of tasks of very different sizes, one of them of a single pair, and a tokenizer of single letters."""
    folder, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)

    def texts(number):
        return ["".join(rng.choice(LETTERS, rng.integers(1, 60))) for _ in range(number)]

    tiny_corpus.write(
        folder / "corpus",
        {code: {"train": texts(size)} for code, size in dict(deu_Latn=900, eng_Latn=2500, swh_Latn=40).items()},
        {
            pair: {"train": (texts(size), texts(size))}
            for pair, size in {"deu_Latn-eng_Latn": 3000, "eng_Latn-swh_Latn": 300, "deu_Latn-swh_Latn": 1}.items()
        },
        collections={"code.stack": {"train": texts(50)}},
    )
    synthetic.write_tokenizer(folder / "tokenizer")
    return folder


def config_of(sources, folder):
    config = base.get_config()
    config.run_name = "planned"
    config.corpus.folder, config.tokenizer.folder = str(sources / "corpus"), str(sources / "tokenizer")
    config.pack.update(folder=str(folder), row_length=512, rows_per_shard=64, validation_documents=0, tokens=1_000_000)
    config.pack.components.monolingual = base.component("mono.*", share=6.0, policy="unimax", max_epochs=2.5)
    config.pack.components.bilingual = base.component(
        "pair.*", share=70.0, policy="resource_class", multipliers={"low": 3.0}, max_epochs=1.5, min_epochs=1.0
    )
    config.pack.components.code = base.component("code.*", tokens=4000, max_epochs=4.0)
    config.mixture.update(monolingual=30.0, bilingual=60.0, code=10.0)
    config.train.steps, config.input_pipeline.batch_rows = 40, 8
    return config


def test_rows_hold_what_was_planned(sources, tmp_path, caplog):
    config = config_of(sources, tmp_path / "rows")
    caplog.set_level(logging.INFO)
    pack.main(config, plan=True)
    assert not list((tmp_path / "rows").glob("*/"))
    assert "plan-planned.html" in caplog.text
    budget = pack_budget.make(config)
    planned = {component.name: component for component in budget.components}
    pack.main(config)
    over_epochs, num_bytes = set(), sum(path.stat().st_size for path in (tmp_path / "rows").rglob("*.arrayrecord"))
    assert num_bytes == pytest.approx(budget.store_bytes, rel=0.05)
    for name, component in planned.items():
        found = store.load(config.pack.folder, name)
        assert [task.name for task in found.tasks] == [task.name for task in component.tasks]
        for task, wanted in zip(found.tasks, component.tasks, strict=True):
            assert abs(task.tokens - wanted.tokens) <= max(0.01 * wanted.tokens, config.pack.row_length)
            over_epochs |= {(int(task.epochs * 10) / 10, int(wanted.epochs * 10) / 10)}
        # Only what is drawn is written: every token of a row is one that was counted.
        assert found.tokens == sum(task.tokens for task in found.tasks)
    assert any(epochs < 0.9 for epochs, _ in over_epochs) and any(epochs > 2.3 for epochs, _ in over_epochs)
    smallest = next(t for t in store.load(config.pack.folder, "bilingual").tasks if t.name == "pair.deu_Latn-swh_Latn")
    assert smallest.documents >= 2  # in both directions, once at least


def test_a_change_of_policy_packs_its_component_alone(sources, tmp_path, caplog):
    config = config_of(sources, tmp_path / "rows")
    for name in ("monolingual", "bilingual"):
        del config.pack.components[name]
        del config.mixture[name]
    config.pack.components.german = base.component("mono.deu_Latn", tokens=3000)
    pack.main(config)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").rglob("*.arrayrecord")}
    config.pack.components.code.policy = "unimax"
    config.pack.components.german.update(tokens=0, share=0.3)  # the same tokens, said otherwise
    config.pack.replace = True
    pack.main(config)
    changed = {path.parent.name for path, time_ns in times.items() if path.stat().st_mtime_ns != time_ns}
    assert changed == {"code"}


def test_what_falls_short_or_is_read_again_is_said(sources, tmp_path):
    config = config_of(sources, tmp_path / "rows")
    config.pack.components.code.tokens = 10**6
    notes = "\n".join(pack_summary.notes(pack_budget.make(config)))
    assert "tokens, not 1M: its tasks have no more in max_epochs" in notes
    config.train.steps = 4000
    assert "The run reads the rows of bilingual" in "\n".join(pack_summary.notes(pack_budget.make(config)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.corpus.update(folder="nowhere"), "plan by the paper's numbers: --config.corpus.folder"),
        (lambda config: config.tokenizer.update(folder="nowhere"), "no tokenizer in 'nowhere'"),
        (lambda config: config.mixture.update(book=1.0), "'book', which is no component"),
        (lambda config: config.pack.update(tokens=0), "bilingual has tokens=0 and share=70 of config.pack.tokens=0"),
        (lambda config: config.pack.components.code.update(share=1.0), "code has tokens=4,000 and share=1 of"),
        (lambda config: config.pack.components.code.update(tokens=0, share=-1.0), "code.share is -1; it must be"),
        (
            lambda config: config.pack.components.code.update(tokens=0, share=30.0),
            "are 106% in all .bilingual 70, code 30, monolingual 6.; lower one of them",
        ),
        (
            lambda config: config.pack.components.bilingual.update(share=0.2),
            "bilingual has 2,000 tokens, and its min_epochs=1 and min_tokens=0 take .* lower them or give it more",
        ),
        (lambda config: config.pack.components.code.update(max_epochs=0.0), "components.code: max_epochs of a"),
        (lambda config: config.rendering.update(direction="forth"), "direction is 'forth'"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(sources, tmp_path, change, message):
    config = config_of(sources, tmp_path / "rows")
    change(config)
    with pytest.raises(ValueError, match=message):
        pack.main(config, plan=True)
    assert not (tmp_path / "rows").exists()


def test_numbers_alone_cannot_be_packed():
    with pytest.raises(ValueError, match="'paper' is a corpus of numbers, .*: add --plan"):
        pack.main(paper(bilingual.get_config))


def test_the_quickstart_rows_are_read_a_few_times():
    config = quickstart.get_config()
    run = config.train.steps * config.input_pipeline.batch_rows * config.pack.row_length
    for name, section in config.pack.components.items():
        share = config.mixture.get(name, 0.0) / sum(config.mixture.values())
        assert share * run <= 2 * section.tokens
