"""launch/tpu_vm.sh prints what it would do and refuses what it does not know; launch/worker.sh keeps a run going."""

import os
import pathlib
import shlex
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TPU_VM = ["gcloud", "compute", "tpus", "tpu-vm"]


def tpu_vm(*arguments, **options):
    command = ["bash", str(ROOT / "launch" / "tpu_vm.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def printed(*arguments):
    """The commands of a dry run, as the shell would read them."""
    result = tpu_vm(*arguments, env={"PATH": os.environ["PATH"], "TMPDIR": "/tmp"})
    assert (result.returncode, result.stderr) == (0, "")
    return [shlex.split(line) for line in result.stdout.splitlines()]


def test_create_and_delete():
    flags = ["--zone=us-east5-a", "--dry-run", "--project=mine"]
    where = ["--zone=us-east5-a", "--project=mine"]
    assert printed("create", "emma", "--type=v5p-128", "--version=v2-alpha-tpuv5", *flags) == [
        [*TPU_VM, "create", "emma", "--accelerator-type=v5p-128", "--version=v2-alpha-tpuv5", *where]
    ]
    assert printed("delete", "emma", *flags) == [[*TPU_VM, "delete", "emma", "--quiet", *where]]


def test_setup_copies_the_commit_to_all_workers_and_installs_it():
    archive, copy, install = printed("setup", "emma", "--zone=z", "--dry-run")
    assert archive[3:] == ["archive", "--format=tar.gz", "--output=/tmp/emma_jax-emma.tar.gz", "HEAD"]
    assert copy == [*TPU_VM, "scp", "/tmp/emma_jax-emma.tar.gz", "emma:emma_jax.tar.gz", "--worker=all", "--zone=z"]
    assert install[:7] == [*TPU_VM, "ssh", "emma", "--worker=all"]
    assert install[7].startswith("--command=mkdir -p emma_jax && cd emma_jax && ")
    assert install[7].endswith("tar -xzf ../emma_jax.tar.gz && bash launch/worker.sh setup")


def test_run_passes_each_word_of_the_command_whole():
    words = ["python", "-m", "emma_jax.train", "--config.run_name=it's a test", "--workdir=gs://bucket/$HOME"]
    (command,) = printed("run", "emma", "--zone=z", "--dry-run", "--", *words)
    assert command[:7] == [*TPU_VM, "ssh", "emma", "--worker=all"]
    assert shlex.split(command[7].removeprefix("--command=")) == ["bash", "emma_jax/launch/worker.sh", "run", *words]


def test_logs_are_of_one_worker_and_stop_is_for_all():
    (command,) = printed("logs", "emma", "--zone=z", "--worker=3", "--dry-run")
    assert command[6:8] == ["--worker=3", "--command=bash emma_jax/launch/worker.sh logs"]
    assert printed("logs", "emma", "--zone=z", "--dry-run")[0][6] == "--worker=0"
    (command,) = printed("stop", "emma", "--zone=z", "--dry-run")
    assert command[6:8] == ["--worker=all", "--command=bash emma_jax/launch/worker.sh stop"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "usage: launch/tpu_vm.sh VERB NAME"),
        ("destroy emma", "there is no verb 'destroy'"),
        ("setup", "setup needs the name of a TPU VM"),
        ("setup --zone=z", "setup needs the name of a TPU VM"),
        ("setup emma", "setup needs --zone"),
        ("create emma --zone=z --type=v5p-8", "create needs --type and --version"),
        ("run emma --zone=z", "run needs a command after --"),
        ("logs emma --zone=z -- ls", "logs takes no command"),
        ("logs emma --zone=z --worker=all", "--worker is 'all', not a number"),
        ("logs emma --zone", "flag '--zone' needs a value, as --zone=VALUE"),
        ("logs emma --zone=z --wroker=1", "flag '--wroker=1' is not known"),
        ("run emma --zone=z python", "flag 'python' is not known"),
    ],
)
def test_wrong_input_is_named(arguments, complaint):
    result = tpu_vm(*arguments.split())
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr


@pytest.mark.parametrize(("answer", "status", "called"), [("", 1, False), ("n\n", 1, False), ("y\n", 0, True)])
def test_delete_asks(tmp_path, answer, status, called):
    (tmp_path / "gcloud").write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/called"\n')
    (tmp_path / "gcloud").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert tpu_vm("delete", "emma", "--zone=z", input=answer, env=environment).returncode == status
    assert (tmp_path / "called").exists() == called
    assert tpu_vm("delete", "emma", "--zone=z", "--yes", input="", env=environment).returncode == 0
    assert (tmp_path / "called").exists()


@pytest.fixture
def worker(tmp_path):
    """A function that runs launch/worker.sh in an empty home; what still runs at the end is stopped."""

    def call(*arguments, **variables):
        command = ["bash", str(ROOT / "launch" / "worker.sh"), *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    yield call
    call("stop")


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited for ten seconds")


def test_a_run_goes_on_when_its_starter_has_gone_until_it_is_stopped(worker, tmp_path):
    log = tmp_path / "emma_jax_logs" / "run.log"
    started = worker(
        "run", "bash", "-c", 'echo "$0"; trap "echo told to stop; exit 3" TERM; while :; do sleep 0.1; done', "a b"
    )
    assert (started.returncode, started.stderr) == (0, "")
    assert "running as process" in started.stdout
    assert log.read_text() == "a b\n"
    second = worker("run", "true")
    assert second.returncode == 1
    assert "is still running here" in second.stderr
    assert worker("stop").returncode == 0
    wait_for(lambda: log.read_text().endswith("told to stop\nended with exit status 3\n"))
    wait_for(lambda: "nothing is running here" in worker("stop").stdout)


def test_a_run_that_fails_at_once_says_so(worker):
    failed = worker("run", "bash", "-c", "echo error: config key train.step is not known; exit 2")
    assert failed.returncode == 1
    assert failed.stderr == "error: config key train.step is not known\nended with exit status 2\n"
    assert worker("run", "true").returncode == 0


def test_flags_of_the_compiler_come_before_those_that_are_set(worker, tmp_path):
    assert worker("run", "printenv", "LIBTPU_INIT_ARGS", LIBTPU_INIT_ARGS="--mine=1").returncode == 0
    flags, _ = (tmp_path / "emma_jax_logs" / "run.log").read_text().splitlines()
    assert flags.split() == ["--mine=1"]  # this machine has no TPU


def test_the_worker_names_its_verbs(worker):
    assert worker("restart").returncode == 2
