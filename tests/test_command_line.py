"""A user's mistake at a command line: one sentence, the way out, exit status 2, no traceback."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
from emma_jax import command_line
def main(config, workdir):
    print(config.run_name, config.train.steps, workdir)
    if workdir == "full":
        raise OSError("no space left")
    if workdir == "defect":
        raise RuntimeError("ours")
command_line.run(main, flag_help={"workdir": "a folder"})
"""


@pytest.fixture
def run(tmp_path):
    def run_program(*arguments):
        (tmp_path / "program.py").write_text(PROGRAM)
        command = [sys.executable, "-c", PROGRAM, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run_program


def test_a_config_may_come_after_its_overrides(run):
    result = run("--workdir=here", "--config.train.steps=7", "--config", "configs/quickstart.py:base")
    assert result.stdout == "quickstart-base 7 here\n"


def test_config_and_overrides(run):
    result = run("--config", "configs/quickstart.py:base", "--config.train.steps=7", "--workdir=here")
    assert result.stdout == "quickstart-base 7 here\n"
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "which run? name its config: --config=configs/quickstart.py"),
        (["--config=configs/absent.py"], "there is no config file configs/absent.py"),
        (["--config=configs/quickstart.py:bas"], "there is no run 'bas'; this config knows base, monolingual"),
        (["--config=configs/bilingual.py:gpt"], "there is no model 'gpt'"),
        (
            ["--config=configs/quickstart.py", "--config.train.stepz=5"],
            "train.stepz is not known; is train.steps meant?",
        ),
        (["--config=configs/quickstart.py", "--config.train.steps=abc"], "config.train.steps=abc: invalid literal"),
        (
            ["--config=configs/quickstart.py", "--config.corpus.sources.x=data"],
            "error: config.corpus.sources has no 'x' to set; a config file can add it: config.corpus.sources.x = ...",
        ),
        (
            ["--config=configs/quickstart.py", "--config.corpus.sources.jango.path=data"],
            "error: config.corpus.sources has no 'jango' to set; is django meant? A config file can add it: ",
        ),
        (
            ["--config=configs/quickstart.py", "--config.corpus.sources.django=data"],
            "error: config.corpus.sources.django cannot be set as a whole; set a key of it: "
            "--config.corpus.sources.django.",
        ),
        (
            ["--config=configs/quickstart.py", "--config.corpus.sources.django.pth=data"],
            "error: config key corpus.sources.django.pth is not known; is corpus.sources.django.path meant?",
        ),
        (
            ["--config=configs/base.py", "--config.pack.components=data"],
            "error: config.pack.components cannot be set as a whole; a config file can add to it",
        ),
        (["--config=configs/quickstart.py", "--config.mixtures.english=1"], "config key mixtures.english is not known"),
        (["--config=configs/quickstart.py", "--config.mixture.bilingual=abc"], "config.mixture.bilingual=abc: could"),
        (["--config.train.steps=3"], "which run? name its config: --config=configs/quickstart.py"),
        (["--config=configs/quickstart.py", "extra"], "expected no argument without a dash, got ['extra']"),
        (["--config=configs/quickstart.py", "--wrokdir=x"], "Unknown command line flag 'wrokdir'"),
        (["--config=configs/quickstart.py", "--workdir=full"], "no space left"),
    ],
)
def test_mistakes(run, arguments, sentence):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_defect_of_ours_keeps_its_traceback(run):
    result = run("--config=configs/quickstart.py", "--workdir=defect")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("del config.train['steps']", "config has no key train.steps"),
        ("config.train.step = 3", "config key train.step is not known"),
        ("config.seed = 'one'", "config.seed is 'one'; expected int, as 0"),
        ("config.mixture.english = 'much'", "config.mixture.english is 'much'; expected float"),
        ("config.pack.components.english = {'tasks': 'mono.*', 'tokens': 5}", "pack.components.english."),
        ("config.train.steps = True", "config.train.steps is True; expected int"),
    ],
)
def test_a_config_file_is_checked_against_the_base(run, tmp_path, change, sentence):
    source = f"""
    from configs import base
    def get_config():
        config = base.get_config()
        with config.ignore_type():
            {change}
        return config
    """
    (tmp_path / "mine.py").write_text(textwrap.dedent(source))
    result = run(f"--config={tmp_path}/mine.py")
    assert result.returncode == 2
    assert sentence in result.stderr


def test_help_shows_the_flags(run):
    result = run("--help")
    assert "--workdir: a folder" in result.stdout + result.stderr
