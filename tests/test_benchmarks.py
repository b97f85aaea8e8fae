"""Benchmarks: every one in its public layout, from known best to known worst, and never over the network."""

import json
import math
import pathlib
import random
import shutil
import socket
import sys

import datasets
import lm_eval
import pytest
import sentencepiece
import tiny_evaluation
from lm_eval.api.model import LM
from sacrebleu.tokenizers import tokenizer_spm

from emma_jax import languages
from emma_jax.evaluation import benchmarks, catalog
from emma_jax.evaluation.tasks import scores, summaries

DATA = pathlib.Path(__file__).parent / "fixtures" / "benchmarks"
CHOICES = {"sib200", "taxi1500", "xcopa", "xstorycloze", "xnli", "belebele", "arc_multilingual"}
GENERATED = catalog.BENCHMARKS.keys() - CHOICES


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection is a failure, whatever the libraries think of being offline."""

    def refuse(*arguments):
        raise AssertionError(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a small tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_evaluation.write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def bleu_tokenizer(tmp_path_factory):
    """Puts a small SentencePiece model where sacrebleu keeps that of `flores200`."""
    folder = tmp_path_factory.mktemp("sacrebleu")
    (folder / "models").mkdir()
    text = [line for path in DATA.glob("flores200/*/*") for line in path.read_text().splitlines()]
    name = tokenizer_spm.SPM_MODELS[scores.BLEU_TOKENIZER]["url"].rpartition("/")[2]
    with (folder / "models" / name).open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text), model_writer=model, vocab_size=120, minloglevel=2
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(folder))
        yield


@pytest.fixture(scope="module")
def loaded(tokenizer, bleu_tokenizer):
    """All tasks that the fixtures have, and the harness's objects by name."""
    chosen = benchmarks.select(list(catalog.BENCHMARKS), data=str(DATA))
    manager = benchmarks.TaskManager(include_defaults=False, metadata={"pretrained": str(tokenizer)})
    return chosen, manager.load([task.config for task in chosen])["tasks"]


class Scripted(LM):
    """A model that knows which request it is asked."""

    def __init__(self, tasks, say):
        super().__init__()
        self.tasks, self.say = tasks, say

    def loglikelihood(self, requests):
        return [(0.0 if r.idx == self.tasks[r.task_name].doc_to_target(r.doc) else -9.0, False) for r in requests]

    def generate_until(self, requests):
        return [self.say(self.tasks[request.task_name].doc_to_target(request.doc)) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise AssertionError("no task asks this")


def run(model, tasks):
    """The results of tasks by name, without the machine's description that `simple_evaluate` takes seconds for."""
    return lm_eval.evaluate(model, {"tasks": tasks, "groups": {}, "group_map": {}}, bootstrap_iters=0)["results"]


def values(loaded, say):
    """benchmark -> name of a number -> its values over the languages."""
    chosen, tasks = loaded
    results = run(Scripted(tasks, say), tasks)
    found = {}
    for task in chosen:
        for key, name in task.metrics.items():
            found.setdefault(task.benchmark, {}).setdefault(name, []).append(results[task.name][key])
    return found


def test_an_oracle_has_the_best_scores(loaded):
    found = values(loaded, lambda reference: reference)
    assert found.keys() == catalog.BENCHMARKS.keys()
    for benchmark, numbers in found.items():
        for name, of_languages in numbers.items():
            best = 100.0 if name in ("bleu", "chrf++") else 1.0
            assert of_languages == pytest.approx([best] * len(of_languages)), (benchmark, name)
    assert {name for numbers in found.values() for name in numbers} == {
        "acc", "acc_robust", "bleu", "chrf++", "rouge_l", "answered",
    }  # fmt: skip


def test_a_model_that_says_nothing_has_the_worst(loaded):
    found = values(loaded, lambda reference: "")
    for benchmark in GENERATED:
        for name, of_languages in found[benchmark].items():
            assert of_languages == [0.0] * len(of_languages), (benchmark, name)


@pytest.mark.parametrize("benchmark", sorted(CHOICES))
def test_a_random_scorer_is_at_chance(loaded, benchmark):
    chosen, tasks = loaded
    generator = random.Random(7)
    for task in chosen:
        if task.benchmark == benchmark:
            (metric,) = (key.partition(",")[0] for key in task.metrics)
            right, expected, variance = 0.0, 0.0, 0.0
            for row in tasks[task.name].eval_docs:
                choices = tasks[task.name].doc_to_choice(row)
                # What is divided by the length of a choice must be drawn for each of its characters.
                sizes = [len(choice) if metric == "acc_norm" else 1 for choice in choices]
                for _ in range(200):
                    drawn = [(-generator.random() * size, False) for size in sizes]
                    right += tasks[task.name].process_results(row, drawn)[metric]
                    expected += 1 / len(choices)
                    variance += (1 - 1 / len(choices)) / len(choices)
            assert abs(right - expected) < 3 * math.sqrt(variance), task.name


def prompts(loaded, name):
    task = loaded[1][name]
    return [task.fewshot_context(row, 0) for row in task.eval_docs]


def test_prompts_are_the_published_ones(loaded):
    (first, *_) = prompts(loaded, "sib200_swh_Latn")
    heading, empty, *shots, query, after = first.split("\n")
    assert heading == (
        "Topic Classification: science/technology, travel, politics, sports, health, entertainment, geography."
    )
    assert (empty, query, after) == ("", 'The topic of the news "Kipa alidaka mpira kwa mkono mmoja." is', "")
    assert len(set(shots)) == 3
    rows = [line.split("\t") for line in (DATA / "sib200/swh_Latn/train.tsv").read_text().splitlines()[1:]]
    spoken = [(category, text.strip('"').replace('""', '"')) for _, category, text in rows]
    assert set(shots) <= {f'The topic of the news "{text}" is {category}' for category, text in spoken} | {
        'The topic of the news ""Tutapiga kura Jumatatu", spika aliliambia bunge." is politics'
    }
    assert prompts(loaded, "sib200_robust_swh_Latn") == [p[:-1] for p in prompts(loaded, "sib200_swh_Latn")]

    (first, *_) = prompts(loaded, "taxi1500_eng_Latn")
    assert first.startswith("Topic Classification: Recommendation, Faith, Description, Sin, Grace, Violence.\n\n")
    assert first.endswith('\nThe label of "Seven lamps burned in the great hall ." is\n')
    assert first.count("\nThe topic of the verse") == 3

    (first, *_) = prompts(loaded, "flores200_eng_Latn-swh_Latn")
    assert first.count("[English]: ") == 4
    assert first.endswith(
        "Translate the following sentence from English to Swahili\n"
        "[English]: The farmer sold his cows in the spring.\n[Swahili]:"
    )
    kwargs = loaded[1]["flores200_eng_Latn-swh_Latn"].config.generation_kwargs
    assert (kwargs["temperature"], kwargs["top_p"], kwargs["until"]) == (0.6, 0.9, ["\n"])

    (first, *_) = prompts(loaded, "xlsum_swh_Latn")
    assert first.startswith("Hati: Kijiji cha Mwangaza")
    assert first.endswith("\nMuhtasari mfupi wa maandishi yaliyo hapo juu:")
    assert loaded[1]["xlsum_swh_Latn"].config.generation_kwargs["max_gen_toks"] == 64
    assert prompts(loaded, "massivesumm_short_lin_Latn")[0].endswith("\nBrief summary of the text above:")


def test_tasks_of_the_harness_read_local_data_as_they_read_the_hub(loaded):
    assert prompts(loaded, "xcopa_sw")[1] == "Mtoto alilia kwa sababu"
    assert prompts(loaded, "xstorycloze_sw")[0].endswith("Alimwagilia kila siku. Mimea ilikua haraka.")
    xnli = loaded[1]["xnli_sw"]
    assert xnli.doc_to_choice(xnli.eval_docs[0])[0] == (
        'Alisema "hapana" akatoka chumbani., sahihi? Ndiyo, Alitoka nje.'
    )
    assert len(loaded[1]["xnli_en"].eval_docs) == 3
    assert prompts(loaded, "belebele_swh_Latn")[0].endswith("D: Walimu\nAnswer:")
    assert prompts(loaded, "arc_de")[1] == "Question: Welcher Stoff leitet Strom am besten?\nAnswer:"
    assert [len(loaded[1]["arc_de"].doc_to_choice(row)) for row in loaded[1]["arc_de"].eval_docs] == [4, 4, 5, 3]
    assert prompts(loaded, "mgsm_direct_sw")[0].startswith("Swali: Juma ana machungwa 12")


def test_mgsm_reads_answers_that_are_not_of_ascii_digits(loaded):
    tasks = {name: loaded[1][name] for name in ("mgsm_direct_ja", "mgsm_native_cot_ja", "mgsm_native_cot_sw")}
    said = {
        "mgsm_direct_ja": ["７個\n解説：12から5を引く", "1,250冊"],
        "mgsm_native_cot_ja": ["12 - 5 = 7。答えは7個です。次に3を足す", "25×50。答えは、１，２５０冊です。"],
        "mgsm_native_cot_sw": ["12 - 5 = 7.00. Jibu ni 7.00", "Jibu ni 1250.", "3 * 60 = 180"],
    }
    for name, task in tasks.items():
        answers = iter(said[name])
        result = run(Scripted(tasks, lambda _, answers=answers: next(answers)), {name: task})[name]
        assert result["exact_match,robust"] == 1.0, name
        assert result["exact_match,flexible-extract"] < 1.0, name


def test_a_language_or_a_direction_can_be_chosen():
    names = lambda *arguments: [task.name for task in benchmarks.select(*arguments)]  # noqa: E731
    assert names(["mgsm_direct", "xcopa"], ["swh_Latn"]) == ["mgsm_direct_sw", "xcopa_sw"]
    assert names(["flores200"], ["swh_Latn"]) == ["flores200_swh_Latn-eng_Latn", "flores200_eng_Latn-swh_Latn"]
    assert names(["flores200"], ["swh_Latn-eng_Latn"]) == ["flores200_swh_Latn-eng_Latn"]
    assert names(["xcopa", "sib200"], ["fin_Latn"]) == ["sib200_fin_Latn", "sib200_robust_fin_Latn"]
    assert names(["belebele"], ["zho_Hans"]) == ["belebele_zho_Hans"]


def test_there_are_as_many_languages_as_the_paper_has():
    sizes = {name: len(b.codes) for name, b in catalog.BENCHMARKS.items() if b.codes is not None}
    assert sizes == {
        "sib200": 205, "xcopa": 11, "xstorycloze": 11, "xnli": 15, "flores200": 204, "xlsum": 45, "belebele": 122,
        "arc_multilingual": 31, "mgsm_direct": 11, "mgsm_cot": 11,
    }  # fmt: skip
    chosen = benchmarks.select([name for name in sizes])
    assert len({task.name for task in chosen}) == len(chosen) == sum(sizes.values()) + 205 + 203 * 2 - 204
    for task in chosen:
        for code in task.language.split("-"):
            assert code == languages.check(code)


def test_the_harness_finds_our_tasks_by_name(tokenizer, loaded):
    manager = benchmarks.TaskManager(include_defaults=False, metadata={"data": str(DATA), "pretrained": str(tokenizer)})
    by_name = manager.load(["sib200_swh_Latn", "mgsm_direct_sw", "massivesumm_long_swh_Latn"])["tasks"]
    assert [list(task.eval_docs) for task in by_name.values()] == [list(loaded[1][name].eval_docs) for name in by_name]
    assert manager.match_tasks(["sib200_*_swh_Latn"]) == ["sib200_robust_swh_Latn"]
    assert len(manager.load("flores200")["tasks"]) == 2
    hub = benchmarks.TaskManager(include_defaults=False)
    assert {"sib200_robust_fin_Latn", "flores200_fin_Latn-eng_Latn", "arc_de"} <= hub.task_index.keys()


def test_rows_of_the_hub_are_read_as_those_of_files(monkeypatch, loaded, tokenizer):
    labels = ("geography", "science/technology", "health", "travel", "entertainment", "politics", "sports")

    def rows(split):
        lines = (DATA / "sib200" / "swh_Latn" / f"{split}.tsv").read_text().splitlines()[1:]
        cells = [line.split("\t") for line in lines]
        texts = [text[1:-1].replace('""', '"') if text.startswith('"') else text for *_, text in cells]
        features = datasets.Features({"category": datasets.ClassLabel(names=labels), "text": datasets.Value("string")})
        table = {"category": [category for _, category, _ in cells], "text": texts}
        return datasets.Dataset.from_dict(table, features=features)

    def load_dataset(path, name, split):
        if path == "facebook/flores":
            lines = (DATA / "flores200" / split / f"{name}.{split}").read_text().splitlines()
            return datasets.Dataset.from_dict({"sentence": lines})
        if path == "csebuetnlp/xlsum":
            return [json.loads(line) for line in (DATA / "xlsum" / f"{name}_{split}.jsonl").read_text().splitlines()]
        assert path == "Davlan/sib200"
        return rows(split)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    manager = benchmarks.TaskManager(include_defaults=False, metadata={"pretrained": str(tokenizer)})
    names = ["sib200_swh_Latn", "flores200_swh_Latn-eng_Latn", "xlsum_swh_Latn"]
    for name, task in manager.load(names)["tasks"].items():
        assert list(task.eval_docs) == list(loaded[1][name].eval_docs)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((["sib20"],), "there is no benchmark 'sib20'; is sib200 meant?"),
        ((["xcopa"], ["swa_Latn"]), "xcopa has no language 'swa_Latn'; is swh_Latn meant?"),
        ((["xcopa", "xnli"], ["swh_Latn", "fin_Latn"]), "xcopa and xnli have no language 'fin_Latn'"),
        ((["sib200"], ["fin_Latn"], str(DATA)), "sib200 has no language 'fin_Latn'"),
        ((["taxi1500"],), "taxi1500 is not on the Hub; give it as --data=DIR with DIR/taxi1500/LANGUAGE/LANGUAGE_test"),
        ((["xnli"], [], "nowhere"), "there is no xnli in 'nowhere'; expected DIR/xnli/xnli.dev.tsv"),
    ],
)
def test_what_cannot_be_chosen_is_said(arguments, sentence):
    with pytest.raises(ValueError) as error:
        benchmarks.select(*arguments)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "line", "change", "sentence"),
    [
        ("sib200/swh_Latn/test.tsv", 3, ("health", "helth"), "category is 'helth', expected one of"),
        ("sib200/swh_Latn/test.tsv", 3, ("22\t", ""), "has 2 columns, expected 3: index_id, category, text"),
        ("sib200/swh_Latn/train.tsv", 1, ("category", "label"), "has no column category; it has index_id, label, text"),
        ("taxi1500/eng_Latn/eng_Latn_test.tsv", 2, ("Grace\t", "Grace "), "has 2 columns"),
        ("xcopa/test.sw.jsonl", 2, ('"label": 1', '"label": 2'), "label is 2, expected one of 0, 1"),
        ("xcopa/test.sw.jsonl", 2, ("{", ""), "is not JSON"),
        ("xstorycloze/spring2016.val.sw.tsv.split_20_80_eval.tsv", 2, ("\t1", "\t3"), "AnswerRightEnding is '3'"),
        ("xnli/xnli.dev.tsv", 2, ("\tentailment\t", "\t-\t"), "gold_label is '-'"),
        ("flores200/devtest/swh_Latn.devtest", 2, ("Watoto hujifunza alfabeti mwaka wa kwanza.", ""), "is empty"),
        ("xlsum/swahili_test.jsonl", 1, ('"summary"', '"sumary"'), "has no summary; it has id, url, title, sumary"),
        ("massivesumm/long/swh_Latn.jsonl", 1, ('"text": "', '"text": 1, "was": "'), "text is 1, expected a text"),
        (
            "belebele/swh_Latn.jsonl",
            3,
            ('"correct_answer_num": "4"', '"correct_answer_num": "5"'),
            "correct_answer_num",
        ),
        ("arc_multilingual/de/test.jsonl", 4, ('"answer": "B"', '"answer": "F"'), "answer is 'F'"),
        ("mgsm/mgsm_sw.tsv", 2, ("1,250", "many"), "answer_number is 'many', expected a whole number"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, tokenizer, bleu_tokenizer, file, line, change, sentence):
    name = file.partition("/")[0]
    shutil.copytree(DATA / name, tmp_path / name)
    lines = (tmp_path / file).read_text().splitlines()
    assert change[0] in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(*change, 1)
    (tmp_path / file).write_text("\n".join(lines) + "\n")
    names = {"mgsm": "mgsm_direct", "massivesumm": "massivesumm_long"}
    with pytest.raises(ValueError) as error:
        tasks = benchmarks.select([names.get(name, name)], data=str(tmp_path))
        manager = benchmarks.TaskManager(include_defaults=False, metadata={"pretrained": str(tokenizer)})
        manager.load([task.config for task in tasks])
    where = str(tmp_path / file) + ("" if line == 1 and "column" in sentence else f" line {line}")
    assert str(error.value).startswith(where)
    assert sentence in str(error.value)


def test_rule_paper_asks_for_a_tokenizer():
    (task, *_) = benchmarks.select(["sib200"], ["swh_Latn"], str(DATA))
    with pytest.raises(ValueError, match="name the model's folder as pretrained=DIR"):
        benchmarks.TaskManager(include_defaults=False).load([task.config])


def test_bleu_without_its_tokenizer_is_refused_before_anything_is_generated(monkeypatch, tmp_path):
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    scores.check_bleu_tokenizer.cache_clear()
    (task, *_) = benchmarks.select(["flores200"], ["swh_Latn"], str(DATA))
    with pytest.raises(ValueError, match="BLEU needs sacrebleu's tokenizer flores200"):
        benchmarks.TaskManager(include_defaults=False).load([task.config])
    scores.check_bleu_tokenizer.cache_clear()


def test_rouge_reads_words_of_any_script_and_leaves_out_what_says_nothing():
    pairs = [("мир и труд", "мир или труд"), ("мир", ""), ("мир", "...")]
    assert scores.rouge_l(pairs) == pytest.approx(2 / 3)
    assert scores.answered(pairs) == pytest.approx(1 / 3)


def test_other_words_for_summaries_can_be_given(tmp_path):
    (tmp_path / "prompts.tsv").write_text("language\tdocument\tinstruction\nswh_Latn\tMakala\tFupisha\n")
    assert summaries.words("swh_Latn", tmp_path) == ("Makala", "Fupisha")
    assert summaries.words("fra_Latn", tmp_path) == summaries.words("fra_Latn", None)


def test_what_the_hub_does_not_give_is_told_with_the_way_out(monkeypatch, tokenizer):
    def load_dataset(*arguments, **keywords):
        raise RuntimeError("Dataset scripts are no longer supported, but found it.py\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    manager = benchmarks.TaskManager(include_defaults=False, metadata={"pretrained": str(tokenizer)})
    with pytest.raises(ValueError) as error:
        manager.load("sib200_robust_swh_Latn")
    assert str(error.value) == (
        "Davlan/sib200 (swh_Latn) cannot be read from the Hub: Dataset scripts are no longer supported, "
        "but found it.py; name a folder that holds data: --data=DIR of emma_jax.evaluate, "
        'or --metadata \'{"data": "DIR"}\' of emma_jax.evaluation'
    )


def test_bert_score_is_asked_for_by_name(monkeypatch, tmp_path):
    (without,) = benchmarks.select(["xlsum"], ["swh_Latn"], str(DATA))
    assert len(without.config["metric_list"]) == 2
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bert_score.py").write_text(
        "import numpy\n"
        "def score(outputs, references, model_type, rescale_with_baseline):\n"
        "    assert (model_type, rescale_with_baseline) == ('bert-base-multilingual-cased', False)\n"
        "    return None, None, numpy.array([float(o == r) for o, r in zip(outputs, references, strict=True)])\n"
    )
    (task,) = benchmarks.select(["xlsum"], ["swh_Latn"], str(DATA), bert_score=True)
    tasks = benchmarks.TaskManager(include_defaults=False).load([task.config])["tasks"]
    answers = iter(["", "Wavuvi wanataka msimu wa kufunga uvuvi uongezwe.", "Shule"])
    results = run(Scripted(tasks, lambda reference: next(answers)), tasks)[task.name]
    assert {name: results[key] for key, name in task.metrics.items()} == {
        "rouge_l": pytest.approx((1 + 2 * 0.2 / 1.2) / 2), "answered": pytest.approx(2 / 3), "bert_score": 0.5,
    }  # fmt: skip
    del sys.modules["bert_score"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"this needs bert_score, .*\[bertscore\]"):
        benchmarks.select(["xlsum"], ["swh_Latn"], str(DATA), bert_score=True)
