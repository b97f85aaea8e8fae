"""Reports: `python -m emma_jax.report --results=DIR --runs=base=DIR,bi=DIR --corpus=DIR --output=DIR`.

Reads results of `emma_jax.evaluate`, metrics of training runs and a corpus's manifest; writes `report.html`, one file
that needs nothing else, and `tables/` as CSV, Markdown and LaTeX. Needs no accelerator and no jax.
"""

from absl import logging
from etils import epath

from emma_jax import command_line
from emma_jax.evaluation.results import named_folders
from emma_jax.reporting import data, page, tables

WRITERS = {"csv": tables.to_csv, "md": tables.to_markdown, "tex": tables.to_latex}
FLAGS = {
    "results": "folders with results.jsonl, or such files, separated by commas",
    "runs": "workdirs of the models, as NAME=DIR,NAME=DIR in the order to show them; may be left out",
    "corpus": "folder with manifest.json; may be left out",
    "output": "folder for report.html and tables",
}


def main(results: str, runs: str, corpus: str, output: str) -> None:
    """Writes the report of the models in `results`; raises ValueError if they cannot be compared."""
    if not results or not output:
        raise ValueError("which results, and where to? --results=DIR[,DIR] --output=DIR")
    evidence = data.load(results.split(","), named_folders(runs), corpus)
    folder = epath.Path(output)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for table in tables.all_tables(evidence):
        for ending, write in WRITERS.items():
            (folder / "tables" / f"{table.name}.{ending}").write_text(write(table))
    (folder / "report.html").write_text(page.page(evidence))
    logging.info("the report of %s is %s", ", ".join(evidence.models), folder / "report.html")


if __name__ == "__main__":
    command_line.run(main, config=False, flag_help=FLAGS)
