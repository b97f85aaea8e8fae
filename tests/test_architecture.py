"""The architecture, held: imports go downward, heavy packages stay where they belong, sizes stay readable."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# From programs down; a folder stands for all that is in it.
LAYERS = [
    {
        "train",
        "pack",
        "evaluate",
        "report",
        "hf",
        "generate",
        "evaluation.__main__",
        "preflight",
        "train_tokenizer",
        "corpus.__main__",
        "data_tasks.inspect",
    },
    {
        "program",
        "compiled_cost",
        "training_data",
        "input_pipeline",
        "record_reader",
        "conversion",
        "decoding",
        "scoring",
        "text_model",
        "validation",
        "corpus",
        "evaluation",
        "reporting",
        "data_tasks",
    }
    | {
        "conversion_config",
        "conversion_table",
        "conversion_stream",
        "model_card",
        "composition",
        "verification",
        "logit_comparison",
        "reference_loss",
        "safetensors_folder",
        "safetensors_file",
        "pack_budget",
        "pack_page",
        "pack_plan",
        "pack_summary",
        "pack_draws",
        "pack_stages",
        "beam_runner",
        "beam_worker",
    },
    {
        "model",
        "attention",
        "sampling",
        "attention_kernel",
        "loss",
        "sharding",
        "tpu_topology",
        "hlo_text",
        "kernel_flops",
        "optimizer",
        "checkpoint",
        "tokenizer",
        "tokenizer_json",
        "manifest",
        "paper_corpus",
        "store",
    },
    {
        "packing",
        "shares",
        "exchange",
        "progress",
        "languages",
        "text_rates",
        "metric_writer",
        "command_line",
        "responses",
    },
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
    """The layer of a module of ours, None for any other; a name imported from a module is in its module's layer."""
    parts = module.removeprefix("emma_jax.").split(".")
    if not module.startswith(("emma_jax.", "data_tasks")):
        return None
    for end in range(len(parts), 0, -1):
        for number, names in enumerate(LAYERS):
            if ".".join(parts[:end]) in names:
                return number
    raise AssertionError(f"{module} is in no layer")


def module_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_downward(path):
    module = module_of(path)
    own = layer_of(module) if module not in ("emma_jax", "configs") else None
    for name in imports(path):
        other = layer_of(name) if name != "emma_jax" else None
        if own is not None and other is not None:
            assert other >= own, f"{module} imports {name} from a higher layer"
            assert own > 0 or other > 0, f"{module} is a program and imports another: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_heavy_packages_stay_where_they_belong(path):
    module, roots = module_of(path), {name.split(".")[0] for name in imports(path)}
    assert not roots & {"torch", "transformers"} or module == "emma_jax.logit_comparison"
    if not module.startswith(("data_tasks", "emma_jax.pack", "emma_jax.corpus.readers.tfds")):
        assert not roots & {"tensorflow", "seqio", "tensorflow_datasets"}
    if module.startswith(("emma_jax.corpus", "emma_jax.languages", "emma_jax.manifest", "emma_jax.report")):
        assert "jax" not in roots


def test_training_imports_no_tensorflow():
    code = (
        "import sys, emma_jax.train, emma_jax.hf, emma_jax.generate\n"
        "print([m for m in ('tensorflow', 'seqio', 'apache_beam', 'transformers') if m in sys.modules])"
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
