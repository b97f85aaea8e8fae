"""Llama 2 to 3.2 to and from two versions of transformers: bits of every tensor, and logits of rows of 2,048 tokens."""

import functools
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import random_model
import reference_transformers
import safetensors
from random_model import needs_torch
from scipy.special import log_softmax

from emma_jax import conversion, safetensors_folder

# Version -> the folder that goes before all others; launch/test.sh makes it.
OVERLAYS = {"5": None, "4.46": pathlib.Path(sys.prefix) / "transformers-4.46"}
FAMILIES, DTYPES = list(reference_transformers.FAMILIES), ("float32", "bfloat16")
LLAMA_31 = dict(rope_scaling_factor=8.0, rope_original_length=8192, max_length=131072)
LLAMA_32 = {**LLAMA_31, "rope_scaling_factor": 32.0, "tie_embeddings": True}
LLAMA_3 = dict(rope_scaling_factor=1.0, rope_original_length=8192, max_length=8192)
LLAMA_2 = dict(rope_scaling_factor=1.0, rope_original_length=4096, max_length=4096, rope_theta=1e4)
# config.model of each family, where it is not as `config_of` has it for all.
MODELS = {
    "llama2": {**LLAMA_2, "num_kv_heads": 8},
    "llama3-8b": LLAMA_3,
    "llama3-70b": {**LLAMA_3, "num_heads": 16, "head_dim": 8},
    "llama3.1": LLAMA_31,
    "llama3.2-1b": {**LLAMA_32, "head_dim": 32},
    "llama3.2-3b": {**LLAMA_32, "model_dim": 96, "num_heads": 6, "head_dim": 24},
}
# What a reader of config.json could get wrong, in the words of both versions.
MISREADINGS = {
    "llama2": dict(rope_theta=5e5, rope_parameters=dict(rope_type="default", rope_theta=5e5)),
    "llama3-8b": dict(rope_theta=1e4, rope_parameters=dict(rope_type="default", rope_theta=1e4)),
    "llama3-70b": dict(rms_norm_eps=1e-6),
    "llama3.1": dict(rope_scaling=None, rope_parameters=dict(rope_type="default", rope_theta=5e5)),
    "llama3.2-1b": dict(rope_scaling=None, rope_parameters=dict(rope_type="default", rope_theta=5e5)),
    "llama3.2-3b": dict(rope_scaling=None, rope_parameters=dict(rope_type="default", rope_theta=5e5)),
}
MAX_DIFFERENCE = 1e-4  # of a logit, where logits have a standard deviation of 1 or more

pytestmark = needs_torch


class Figures(NamedTuple):
    """How far logits are apart."""

    deviation: float  # standard deviation of theirs
    max_difference: float
    mean_difference: float
    divergence: float  # mean KL(theirs || ours) per position, nats
    agreement: float  # share of positions with the same most likely token
    max_regret: float  # by which the token that ours has as the most likely is below the one of theirs, in theirs

    def __str__(self):
        return (
            f"{self.deviation:5.2f} {self.max_difference:10.2e} {self.mean_difference:10.2e} "
            f"{self.divergence:10.2e} {self.agreement:9.5f} {self.max_regret:10.2e}"
        )


def figures_of(ours, theirs) -> Figures:
    """Computed in float64."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.float32
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    difference = np.abs(ours - theirs)
    our_logs, their_logs = log_softmax(ours, axis=-1), log_softmax(theirs, axis=-1)
    divergence = (np.exp(their_logs) * (their_logs - our_logs)).sum(axis=-1).mean()
    chosen = np.take_along_axis(theirs, ours.argmax(axis=-1, keepdims=True), axis=-1)[..., 0]
    regret = theirs.max(axis=-1) - chosen
    agreement = (regret == 0).mean()
    figures = (theirs.std(), difference.max(), difference.mean(), divergence, agreement, regret.max())
    return Figures(*map(float, figures))


class Reference:
    """transformers of a version, in a process that does jobs in the order they are sent in."""

    def __init__(self, version: str, folder: pathlib.Path):
        overlay = OVERLAYS[version]
        path = {} if overlay is None else {"PYTHONPATH": str(overlay)}
        self._errors, self._sent, self._done = folder / "errors", set(), set()
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, reference_transformers.__file__],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **path},
            )  # fmt: skip
        self.found_version = self._read()

    def send(self, *job) -> None:
        """Sends a job; the process does it once those before are done."""
        self._sent.add(shlex.join(map(str, job)))
        print(shlex.join(map(str, job)), file=self._process.stdin, flush=True)

    def logits(self, folder, ids, out) -> np.ndarray:
        """The logits of a model for the array of ids in a file, by way of the file `out`; a job sent before is used."""
        job = shlex.join(map(str, ("logits", folder, ids, out)))
        if job not in self._sent:
            self.send("logits", folder, ids, out)
        while job not in self._done:
            self._done.add(self._read())
        return np.load(out)

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self) -> str:
        line = self._process.stdout.readline()
        assert line, self._errors.read_text()
        return line.rstrip("\n")


@pytest.fixture(scope="module")
def table():
    """A function that adds a line of figures and holds them to the limits; all lines are printed at the end."""
    lines = []

    def add(case: str, ours, theirs) -> None:
        figures = figures_of(ours, theirs)
        lines.append(f"{case:58} {figures}")
        assert figures.deviation >= 1, lines[-1]
        assert figures.max_difference <= MAX_DIFFERENCE, lines[-1]
        assert figures.divergence < 1e-10, lines[-1]
        # One or two of 2,048 positions can have a tie closer than the rounding of float32, in either of the two.
        assert figures.agreement >= 0.999 and figures.max_regret <= 5e-5, lines[-1]

    yield add
    print("", f"{'':58}   std   max diff  mean diff         KL  same top max regret", *lines, sep="\n")


@pytest.fixture(scope="module")
def ids(tmp_path_factory):
    """(the file of a row of random ids, the ids)."""
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    ids_BL = np.random.default_rng(0).integers(0, 512, (1, 2048))
    np.save(path, ids_BL)
    return path, ids_BL


@pytest.fixture(scope="module")
def references(tmp_path_factory, ids):
    """Version -> (a `Reference`, its folder), where it is installed.

    Each makes a model of every family and dtype, and their logits, while the tests that need none of them run.
    """
    started = {}
    for version, overlay in OVERLAYS.items():
        if overlay is None or overlay.exists():
            folder = tmp_path_factory.mktemp("reference")
            started[version] = Reference(version, folder), folder
            for family in FAMILIES:
                for dtype in DTYPES:
                    name = folder / f"{family}-{dtype}"
                    started[version][0].send("make", family, name, dtype, FAMILIES.index(family))
                    started[version][0].send("logits", name, ids[0], f"{name}.npy")
    yield started
    for reference, _ in started.values():
        reference.close()


@pytest.fixture(params=OVERLAYS)
def reference(request, references):
    """The pair of `references` of one version."""
    if request.param not in references:
        pytest.skip(f"{OVERLAYS[request.param]} is not there; launch/test.sh installs it, on Python 3.11")
    return references[request.param]


@pytest.fixture(scope="module")
def own(tmp_path_factory, ids):
    """A function of a family: (folder of the export of a model of ours, its logits)."""

    @functools.cache
    def make(family: str):
        folder = tmp_path_factory.mktemp("own")
        config = config_of(family)
        params = random_model.place(random_model.parameters(config), config, random_model.mesh())
        random_model.write_workdir(folder / "run", config, params, tokenizer=False)
        conversion.export_hf(str(folder / "run"), str(folder / "hf"), "float32")
        return folder / "hf", random_model.logits(config, params, ids[1])

    return make


def config_of(family: str):
    """config.model of a family, with weights as wide as those that transformers gets here."""
    sizes = dict(vocab_size=512, model_dim=128, mlp_dim=320, initializer_range=0.12)
    return random_model.model_config(**{**sizes, **MODELS[family]})


def contents(folder) -> dict[str, tuple]:
    """Tensor -> (the shard that holds it and that the index names, dtype, shape, hash of its bytes)."""
    files = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    found = {}
    for path in folder.glob("*.safetensors"):
        for name, tensor in safetensors.deserialize(path.read_bytes()):
            found[name] = (path.name, tensor["dtype"], tensor["shape"], hashlib.sha256(tensor["data"]).hexdigest())
    assert files == {name: content[0] for name, content in found.items()}
    return found


def test_the_versions_are_those_that_are_meant(references):
    for version, (reference, _) in references.items():
        assert reference.found_version.startswith(f"{version}.")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_transformers_come_and_go_unchanged(reference, family, dtype, ids, table, tmp_path, monkeypatch):
    theirs, original = reference[0], reference[1] / f"{family}-{dtype}"
    monkeypatch.setattr(safetensors_folder, "SHARD_BYTES", reference_transformers.SHARD_BYTES)
    expected = theirs.logits(original, ids[0], f"{original}.npy")
    conversion.import_hf(str(original), str(tmp_path / "run"))
    conversion.export_hf(str(tmp_path / "run"), str(tmp_path / "hf"), dtype)
    assert contents(tmp_path / "hf") == contents(original)
    loaded = conversion.load_model(str(tmp_path / "run"), random_model.mesh())
    config = config_of(family)
    assert loaded.config.to_dict() == {**config.to_dict(), "initializer_range": 0.02, "compute_dtype": dtype}
    ours = random_model.logits(config, loaded.params, ids[1])
    case = f"{theirs.found_version:7} {family:12} {dtype:9}"
    table(f"{case} theirs, imported", ours, expected)
    table(f"{case} theirs, imported, exported", ours, theirs.logits(tmp_path / "hf", ids[0], tmp_path / "out.npy"))


@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_ours_are_read(reference, family, own, ids, table, tmp_path):
    folder, ours = own(family)
    theirs = reference[0]
    case = f"{theirs.found_version:7} {family:12} {'float32':9} ours, exported"
    table(case, ours, theirs.logits(folder, ids[0], tmp_path / "out.npy"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rows_tell_a_misread_config(reference, family, own, ids, tmp_path):
    folder, ours = own(family)
    shutil.copytree(folder, tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **MISREADINGS[family]}))
    theirs = reference[0].logits(tmp_path / "hf", ids[0], tmp_path / "out.npy")
    assert figures_of(ours, theirs).max_difference > 100 * MAX_DIFFERENCE
