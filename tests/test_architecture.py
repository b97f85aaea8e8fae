"""The architecture, held: imports go downward, heavy packages stay where they belong, sizes stay readable."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LAYERS = [
    {"train", "pack", "evaluate", "report", "hf", "generate", "train_tokenizer", "corpus.__main__", "inspect"},
    {"program", "input_pipeline", "conversion", "decoding", "validation", "corpus", "evaluation", "data_tasks"},
    {"model", "attention", "loss", "sharding", "optimizer", "checkpoint", "tokenizer", "manifest", "store"},
    {"packing", "languages", "metric_writer", "command_line"},
]
SOURCES = [*ROOT.glob("emma_jax/**/*.py"), *ROOT.glob("data_tasks/**/*.py"), *ROOT.glob("configs/*.py")]


def imports(path: pathlib.Path) -> set[str]:
    """Names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(module: str) -> int | None:
    """The layer of a module of ours: that of its own name, or of the folder it is in, or of the prefix of its name."""
    parts = module.split(".")
    if parts[0] not in ("emma_jax", "data_tasks"):
        return None
    name = ".".join(parts[1:]) if parts[0] == "emma_jax" else ("inspect" if parts[1:] == ["inspect"] else "data_tasks")
    for candidate in (name, name.split(".")[0], name.split("_")[0]):
        for number, names in enumerate(LAYERS):
            if candidate in names:
                return number
    return None


def module_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_downward(path):
    own = layer_of(module_of(path))
    for name in imports(path):
        other = layer_of(name)
        assert own is None or other is None or other >= own, f"{module_of(path)} imports {name} from a higher layer"
        if own == 0 and other == 0:
            assert name.split("_")[1].split(".")[-1] == module_of(path), f"one program imports another: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_heavy_packages_stay_where_they_belong(path):
    module, roots = module_of(path), {name.split(".")[0] for name in imports(path)}
    assert not roots & {"torch", "transformers"}
    if not module.startswith(("data_tasks", "emma_jax.pack")):
        assert not roots & {"tensorflow", "seqio", "tensorflow_datasets"}
    if module.startswith(("emma_jax.corpus", "emma_jax.languages", "emma_jax.manifest", "emma_jax.report")):
        assert "jax" not in roots


def test_training_imports_no_tensorflow():
    code = (
        "import sys, emma_jax.train, emma_jax.hf, emma_jax.generate\n"
        "print([m for m in ('tensorflow', 'seqio', 'apache_beam', 'torch', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def functions(tree):
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_files_and_functions_can_be_read(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 300
    assert ast.get_docstring(tree)
    for function in functions(tree):
        assert function.end_lineno - function.lineno < 60, function.name


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    owners = [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_"))]
    for owner in owners:
        for node in owner.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{node.name} has no docstring"
