"""Reports: what the page and the tables say of results known in advance, and what cannot be compared."""

import csv
import html.parser
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import tiny_corpus

from emma_jax import metric_writer, report
from emma_jax.evaluation import intrinsic
from emma_jax.evaluation.results import Generation, Result, replace
from emma_jax.reporting import data, plots

LANGUAGES = ("deu_Latn", "rus_Cyrl", "heb_Hebr")
# Bits per byte alone, given the source, given another source; of each language, both ways.
SCORES = {"base": (4.0, 4.2, 4.1), "mono": (4.0, 3.8, 3.9), "bi": (4.0, 3.0, 3.5)}
HOSTILE = '<script>alert("x")</script> & שלום'


def rows(model, prompt_hash="hash", languages=LANGUAGES):
    metrics = (intrinsic.ALONE, intrinsic.GIVEN, intrinsic.GIVEN_OTHER)
    for language in languages:
        for direction in (f"eng_Latn-{language}", f"{language}-eng_Latn"):
            for metric, value in zip(metrics, SCORES[model], strict=True):
                yield Result(model, intrinsic.BENCHMARK, direction, metric, value, 8, 0, prompt_hash, 0, "1")


def write_run(folder, losses):
    writer = metric_writer.MetricWriter(folder / "events")
    for step, loss in enumerate(losses, 1):
        writer.write(step, {"loss": loss, "tokens": 100.0, "gradient_norm": 1.0})
    writer.write(len(losses), {"validation_loss/mono": losses[-1] + 0.5, "validation_loss/pair": losses[-1] + 0.25})
    writer.close()
    sizes = dict(vocab_size=10, num_layers=1, model_dim=4, num_heads=2, num_kv_heads=1, head_dim=2, mlp_dim=8)
    (folder / "config.json").write_text(json.dumps({"model": sizes | {"tie_embeddings": True}}))


@pytest.fixture
def made(tmp_path):
    """The folder of a whole report on three models, with its inputs."""
    for model, last in (("base", 4.5), ("mono", 4.0), ("bi", 3.5)):
        sample = Generation(model, "sample_translations", "eng_Latn-heb_Hebr", HOSTILE, f"{model} says", "שלום", {})
        replace(tmp_path / "results", model, intrinsic.BENCHMARK, rows(model), [], "")
        replace(tmp_path / "results", model, "sample_translations", [], [sample], "")
        write_run(tmp_path / model, [9.0, last])
    pairs = {"-".join(sorted(("eng_Latn", code))): {"train": (["a b c"] * 40, ["d e"] * 40)} for code in LANGUAGES}
    tiny_corpus.write(tmp_path / "corpus", {"eng_Latn": {"train": ["one two"]}}, pairs)
    runs = ",".join(f"{model}={tmp_path / model}" for model in SCORES)
    report.main(str(tmp_path / "results"), runs, str(tmp_path / "corpus"), str(tmp_path / "out"))
    return tmp_path


def table(made, name):
    with open(made / "out" / "tables" / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_of_models(made):
    base, _, bi = table(made, "models")
    assert (bi["model"], bi["steps"], bi["tokens"]) == ("bi", "2", "200")
    # Embedding 40, final norm 4; attention 2 * 4 * 2 * (2 + 1), MLP 3 * 4 * 8, two norms of 4.
    assert bi["parameters"] == str(40 + 4 + 48 + 96 + 8)
    assert [float(bi[f"{kind} loss{of}"]) for kind, of in (("training", ""), ("validation", ", pairs"))] == [3.5, 3.75]
    assert float(bi["gain"]) == pytest.approx(0.25)
    assert float(bi["gain from content"]) == pytest.approx(0.125)
    assert float(base["gain"]) == pytest.approx(-0.05)


def test_the_tables_of_languages_groups_and_whole_benchmarks(made):
    rows = table(made, "languages")
    assert len(rows) == 6
    assert {row["pair tokens"] for row in rows} == {"200"}
    assert rows[0]["n"] == "8"
    (group,) = table(made, "classes")
    assert group["languages"] == "3"
    assert float(group["bi content"]) == pytest.approx(0.125)
    assert {row["script"] for row in table(made, "scripts")} == {"Latn", "Cyrl", "Hebr"}
    whole = table(made, "translation_gain")
    assert whole[0] == {
        "language": "eng_Latn-deu_Latn", "metric": intrinsic.ALONE, "base": "4.0", "mono": "4.0", "bi": "4.0",
    }  # fmt: skip
    assert (made / "out" / "tables" / "models.tex").read_text().startswith(r"\begin{tabular}{lrr")
    assert (made / "out" / "tables" / "models.md").read_text().startswith("| model | parameters |")


class Page(html.parser.HTMLParser):
    """The tags, the text and the attributes of a page; fails where an element is not closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_needs_nothing_else(made):
    content = (made / "out" / "report.html").read_text()
    page = Page(content)
    assert page.tags.count("svg") == 7  # two of languages, one of sizes, four of training
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert not {name for name, _ in page.attributes} & {"src", "href", "srcset"}
    assert not re.search(r"url\(|@import|https?://", content)
    for svg in re.findall(r"<svg.*?</svg>", content, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_page_says_what_was_found(made):
    text = "".join(Page((made / "out" / "report.html").read_text()).text)
    assert (
        "Over 6 directions, a translation costs, in bits per byte, 4.20 for base, 3.80 for mono, 3.00 for bi." in text
    )
    assert "its source saves (below zero, it costs) -5.0% for base, 5.0% for mono, 25.0% for bi of the bits" in text
    assert "the right one saves -2.5% for base, 2.5% for mono, 12.5% for bi." in text
    assert "In this, bi is +10.0 points from mono, with a standard error of 0.0 over directions." in text
    assert "does not translate" in text


def test_samples_are_shown_as_they_are_and_run_nothing(made):
    content = (made / "out" / "report.html").read_text()
    page = Page(content)
    assert page.tags.count("script") == 1
    assert HOSTILE in page.text
    assert "bi says" in page.text
    assert ("dir", "auto") in page.attributes


def test_results_alone_are_enough(tmp_path):
    replace(tmp_path, "bi", intrinsic.BENCHMARK, rows("bi"), [], "")
    report.main(str(tmp_path / "results.jsonl"), "", "", str(tmp_path / "out"))
    assert Page((tmp_path / "out" / "report.html").read_text()).tags.count("svg") == 2


def test_a_direction_that_one_model_lacks_is_in_no_mean(tmp_path):
    replace(tmp_path, "base", intrinsic.BENCHMARK, rows("base"), [], "")
    replace(tmp_path, "bi", intrinsic.BENCHMARK, rows("bi", languages=LANGUAGES[:2]), [], "")
    evidence = data.load([str(tmp_path)], {}, "")
    assert len(evidence.directions) == 6
    assert len(evidence.compared()) == 4


def test_what_cannot_be_reported_is_refused(made):
    results, base = str(made / "results"), f"base={made / 'base'}"
    cases = [
        (["", "", "", "out"], "which results, and where to"),
        ([str(made / "nowhere"), "", "", "out"], "nowhere is neither a folder of results nor a results.jsonl"),
        ([str(made / "base" / "config.json"), "", "", "out"], "is neither a folder of results"),
        ([f"{results},{results}", "", "", "out"], "base has bits_per_byte_alone of eng_Latn-deu_Latn twice"),
        ([str(made / "base"), "", "", "out"], "there are no results in .*base; run `python -m emma_jax.evaluate`"),
        ([results, f"{base},large={made / 'bi'}", "", "out"], "no results of large; .* hold base, mono, bi"),
        ([results, f"base={made / 'corpus'}", "", "out"], "corpus has no metrics"),
        ([results, "", str(made / "base"), "out"], "there is no corpus in"),
    ]
    for arguments, complaint in cases:
        with pytest.raises(ValueError, match=complaint):
            report.main(*arguments)
    others = [row._replace(model="large") for row in rows("bi", prompt_hash="another")]
    replace(made / "others", "large", intrinsic.BENCHMARK, others, [], "")
    with pytest.raises(ValueError, match="base and large were not scored on the same texts of translation_gain"):
        report.main(f"{results},{made / 'others'}", "", "", "out")


def test_a_report_needs_no_jax():
    code = "import sys, emma_jax.report; print('jax' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_dot_is_where_its_value_is():
    rows = {"deu_Latn": [plots.Span(1.0, 2.0)], "swh_Latn": [plots.Span(3.0, 1.0)]}
    svg = ElementTree.fromstring(plots.dot_plot(rows, ["bi"], "bits"))
    hollow = [float(circle.get("cx")) for circle in svg.iter("circle") if circle.get("class") == "hollow"]
    full = [float(circle.get("cx")) for circle in svg.iter("circle") if circle.get("class") == "full"]
    assert hollow[0] == full[1] < full[0] < hollow[1]
    assert full[0] == pytest.approx((hollow[0] + hollow[1]) / 2, abs=0.01)


def test_a_dot_far_off_is_at_the_edge_and_keeps_its_value():
    points = [plots.Point(10.0, float(number), "x") for number in range(100)] + [plots.Point(10.0, -900.0, "far")]
    svg = ElementTree.fromstring(plots.scatter_plot({"bi": points}, {"bi": 0}, ("x", "y"), log_x=True))
    dots = {circle.find("title").text: float(circle.get("cy")) for circle in svg.iter("circle")}
    assert dots["far bi: -900"] == 280.0
    assert dots["x bi: 0"] < 280.0


def test_logarithmic_ticks_are_powers_of_ten():
    scale = plots.Scale(50.0, 20_000.0, 0.0, 100.0, log=True)
    assert scale.ticks() == [100.0, 1000.0, 10_000.0]
    assert scale(1000.0) == pytest.approx(50.0)
