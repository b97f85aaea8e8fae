"""Conversion: bit for bit in both directions, whole or not at all, and refused before anything is written."""

import json
import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import random_model
from random_model import model_config, needs_torch, parameters
from safetensors.numpy import load_file, save_file

from emma_jax import checkpoint, conversion, conversion_table, program, safetensors_file, safetensors_folder
from emma_jax.checkpoint import Checkpoints

SCALING = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=256)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """(folder with run/ and its float32 export hf/, config, params)."""
    folder = tmp_path_factory.mktemp("original")
    config = model_config()
    params = parameters(config)
    random_model.write_workdir(folder / "run", config, params)
    conversion.export_hf(str(folder / "run"), str(folder / "hf"), "float32")
    return folder, config, params


@pytest.fixture
def copy(original, tmp_path):
    """A copy of the export, to be damaged."""
    return shutil.copytree(original[0] / "hf", tmp_path / "copy")


def change_json(path, **changes):
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(content))


def tensors_in(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype and left[name].shape == right[name].shape, name
        assert left[name].tobytes() == right[name].tobytes(), name


def assert_equal_trees(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


# The table


@pytest.mark.parametrize("tied", [False, True])
def test_the_table_has_every_parameter_once(tied):
    config = model_config(tie_embeddings=tied)
    shapes = checkpoint.unstack_abstract(program.abstract_params(config, random_model.mesh()))
    leaves = {"/".join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}
    rows = list(conversion_table.tensors_of(config))
    assert sorted(path for path, _, _ in rows) == sorted(leaves)
    assert len({name for _, name, _ in rows}) == len(rows)
    sizes = conversion_table.sizes_of(config)
    for path, name, tensor in rows:
        theirs = np.arange(leaves[path].size).reshape(tensor.their_shape(sizes))
        ours = tensor.to_ours(theirs, sizes)
        assert ours.shape == leaves[path].shape, name
        np.testing.assert_array_equal(tensor.to_theirs(ours, sizes).reshape(theirs.shape), theirs)


# Bits


@needs_torch
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_import_then_export_gives_the_bits_that_transformers_wrote(tmp_path, dtype, tied):
    import torch
    import transformers

    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=8,
            num_key_value_heads=2, head_dim=16, tie_word_embeddings=tied, rms_norm_eps=1e-5,
            rope_parameters=dict(SCALING, rope_type="llama3", rope_theta=5e5), max_position_embeddings=4096,
        )
    ).to(getattr(torch, dtype))  # fmt: skip
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="100KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    conversion.import_hf(str(tmp_path / "theirs"), str(tmp_path / "run"))
    conversion.export_hf(str(tmp_path / "run"), str(tmp_path / "ours"), dtype)
    assert_same_bits(tensors_in(tmp_path / "theirs"), tensors_in(tmp_path / "ours"))
    read = [transformers.AutoConfig.from_pretrained(tmp_path / name).to_dict() for name in ("theirs", "ours")]
    for config in read:
        for key in ("bos_token_id", "eos_token_id", "transformers_version", "_name_or_path", "pretraining_tp"):
            config.pop(key, None)  # without a tokenizer our export names no special tokens
    assert read[0] == read[1]


def test_export_rounds_to_bfloat16_to_nearest_even(original, tmp_path):
    folder, _, params = original
    conversion.export_hf(str(folder / "run"), str(tmp_path / "hf"), "bfloat16")
    found = tensors_in(tmp_path / "hf")["model.embed_tokens.weight"]
    bits = np.asarray(params["embedding"]).view(np.uint32).astype(np.uint64)
    expected = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    np.testing.assert_array_equal(found.view(np.uint16), expected.astype(np.uint16))


@pytest.mark.parametrize("axes", [dict(fsdp=8), dict(fsdp=4, tensor=2)], ids=str)
def test_import_on_a_mesh_and_back_gives_the_same_bits(original, tmp_path, axes):
    mesh = random_model.mesh(8, **axes)
    conversion.import_hf(str(original[0] / "hf"), str(tmp_path / "run"))
    loaded = conversion.load_model(str(tmp_path / "run"), mesh)
    assert_equal_trees(loaded.params, original[2])
    assert loaded.params["head"].sharding == program.abstract_params(loaded.config, mesh)["head"].sharding
    conversion.export_hf(str(tmp_path / "run"), str(tmp_path / "hf"), "float32")
    assert_same_bits(tensors_in(original[0] / "hf"), tensors_in(tmp_path / "hf"))


def test_first_loss_of_a_continual_run_is_the_loss_of_its_base(tiny_config, one_device_mesh, random_batch, tmp_path):
    tiny_config.model.tie_embeddings = False
    built = program.build(tiny_config, one_device_mesh)
    trained, _ = built.step(built.init(jax.random.key(0)), random_batch(9))
    random_model.write_workdir(tmp_path / "base", tiny_config.model, trained.params)
    conversion.export_hf(str(tmp_path / "base"), str(tmp_path / "hf"), "float32")
    conversion.import_hf(str(tmp_path / "hf"), str(tmp_path / "imported"))
    params = Checkpoints(tmp_path / "imported").restore_params(0, built.state.params)
    batch = random_batch(3)
    np.testing.assert_array_equal(built.score(params, batch), built.score(trained.params, batch))
    imported = built.init(jax.random.key(1))._replace(params=params)
    (_, first), (_, base) = built.step(imported, batch), built.step(trained, batch)
    assert float(first["loss"]) == float(base["loss"])


def test_load_model_takes_a_workdir_a_step_and_a_hf_folder(original, tmp_path):
    folder, config, params = original
    newer = jax.tree.map(lambda x: x + 1, params)
    shutil.copytree(folder / "run", tmp_path / "run")
    random_model.write_workdir(tmp_path / "run", config, newer, step=9)
    for name, expected in (("run", newer), ("run@5", params), ("run@9", newer)):
        loaded = conversion.load_model(str(tmp_path / name), random_model.mesh())
        assert_equal_trees(loaded.params, expected)
        assert loaded.name == name and loaded.tokenizer.bos_id == 94
    loaded = conversion.load_model(str(folder / "hf"), random_model.mesh())
    assert_equal_trees(loaded.params, params)
    assert loaded.name == "hf" and loaded.tokenizer.bos_id == 94
    assert {**loaded.config, "remat": config.remat} == config.to_dict()


# Files


def test_an_export_in_shards_is_the_export_in_one_file(original, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_folder, "SHARD_BYTES", 100_000)
    conversion.export_hf(str(original[0] / "run"), str(tmp_path / "hf"), "float32")
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in (tmp_path / "hf").glob("*.safetensors"))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert len(files) > 3 and set(index["weight_map"].values()) == set(files)
    one = tensors_in(original[0] / "hf")
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in one.values())
    assert_same_bits(tensors_in(tmp_path / "hf"), one)
    loaded = conversion.load_model(str(tmp_path / "hf"), random_model.mesh())
    assert_equal_trees(loaded.params, original[2])


def test_an_interrupted_export_leaves_nothing_and_can_be_repeated(original, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(safetensors_folder, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            conversion.export_hf(str(original[0] / "run"), str(tmp_path / "hf"), "float32")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "hf.partial").mkdir()  # as a kill leaves it
    (tmp_path / "hf.partial" / "rest").write_text("")
    (tmp_path / "hf").mkdir()
    conversion.export_hf(str(original[0] / "run"), str(tmp_path / "hf"), "float32")
    assert not (tmp_path / "hf.partial").exists()
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "provenance.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_an_export_killed_at_any_moment_never_looks_complete(original, tmp_path):
    """Killed after each file operation in turn, until one goes through."""
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(pathlib.Path(__file__).parent)!r}]
from emma_jax import conversion, safetensors_folder
safetensors_folder.SHARD_BYTES = 200_000
left = int(sys.argv[1])
def audit(event, arguments):
    global left
    if event == "open" and ".partial" in str(arguments[0]) or event in ("os.rename", "os.mkdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(audit)
conversion.export_hf(sys.argv[2], sys.argv[3], "float32")
"""
    target, moments = tmp_path / "hf", (0, 3, 8, 14, 18, 10_000)
    for moment in moments:
        command = [sys.executable, "-c", code, str(moment), str(original[0] / "run"), str(target)]
        status = subprocess.run(command, capture_output=True, text=True)
        assert (status.returncode == 0) == (moment == moments[-1]), status.stderr
        assert target.exists() == (moment == moments[-1])
    assert_same_bits(tensors_in(target), tensors_in(original[0] / "hf"))


def test_a_failed_write_is_an_os_error_that_names_the_file(tmp_path):
    with pytest.raises(OSError, match="model.safetensors could not be written: No such file"):
        safetensors_file.write(tmp_path / "no folder" / "model.safetensors", {}, np.dtype("f4"), None, {})


def test_an_export_that_reads_back_otherwise_is_no_export(original, tmp_path, monkeypatch):
    write = safetensors_file.write

    def write_and_damage(path, *arguments):
        write(path, *arguments)
        with open(path, "r+b") as file:
            file.seek(-3, 2)
            file.write(b"\x01")

    monkeypatch.setattr(safetensors_file, "write", write_and_damage)
    with pytest.raises(OSError, match="lm_head.weight reads back otherwise than it was written"):
        conversion.export_hf(str(original[0] / "run"), str(tmp_path / "hf"), "float32")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before_anything_is_written(original, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_folder.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"hf takes [\d,]+ bytes and its disk has 1,000 left"):
        conversion.export_hf(str(original[0] / "run"), str(tmp_path / "new" / "hf"), "float32")
    assert list(tmp_path.iterdir()) == []


def test_special_tokens_and_tokenizer_files_travel(original, tmp_path):
    conversion.import_hf(str(original[0] / "hf"), str(tmp_path / "run"))
    conversion.export_hf(str(tmp_path / "run"), str(tmp_path / "hf"), "bfloat16")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        expected = (original[0] / "run" / "tokenizer" / name).read_bytes()
        assert (tmp_path / "run" / "tokenizer" / name).read_bytes() == expected
        assert (tmp_path / "hf" / name).read_bytes() == expected
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["dtype"]) == (94, 95, "bfloat16")
    generation = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (94, 95)
    metadata = Checkpoints(tmp_path / "run").metadata(0)
    assert metadata.tokenizer == conversion.load_model(str(tmp_path / "hf"), random_model.mesh()).tokenizer.fingerprint


def test_a_folder_without_tokenizer_is_imported(copy, tmp_path):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    conversion.import_hf(str(copy), str(tmp_path / "run"))
    assert conversion.load_model(str(tmp_path / "run"), random_model.mesh()).tokenizer is None
    assert Checkpoints(tmp_path / "run").metadata(0).tokenizer == ""


# Damage


def rewrite(folder, change):
    tensors = tensors_in(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def assert_import_refused(folder, tmp_path, message):
    with pytest.raises(ValueError, match=message):
        conversion.import_hf(str(folder), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(QUERY), f"lacks the tensor {QUERY}"),
        (lambda tensors: tensors.update({QUERY: np.zeros((64, 128), np.float32)}), r"q_proj.* shape \(64, 128\)"),
        (lambda tensors: tensors.update({QUERY: np.zeros((128, 64), np.int8)}), "q_proj.* stored as I8"),
        (lambda tensors: tensors.update({"model.layers.1.self_attn.q_proj.bias": np.zeros(8)}), "q_proj.bias is no"),
        (lambda tensors: tensors.update({"model.layers.3.mlp.up_proj.weight": np.zeros(8)}), "layers.3.* is no"),
        (lambda tensors: tensors[QUERY].__setitem__((127, 63), np.nan), "q_proj.* infinite or not a number"),
        (lambda tensors: tensors["lm_head.weight"].__setitem__((0, 0), -np.inf), "lm_head.* infinite or not"),
    ],
    ids=["missing", "shape", "dtype", "bias", "layer", "nan", "infinite"],
)
def test_wrong_tensors_are_named(copy, tmp_path, change, message):
    rewrite(copy, change)
    assert_import_refused(copy, tmp_path, message)


def test_nan_is_found_in_half_precision(original, tmp_path):
    conversion.export_hf(str(original[0] / "run"), str(tmp_path / "half"), "bfloat16")
    rewrite(tmp_path / "half", lambda tensors: tensors[QUERY].__setitem__((3, 5), np.nan))
    assert_import_refused(tmp_path / "half", tmp_path, "q_proj.* infinite or not a number")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_hidden_layers=4), "lacks the tensor model.layers.3.self_attn.q_proj.weight"),
        (dict(num_hidden_layers=2), "model.layers.2.* is no tensor of the Llama that config.json describes"),
        (dict(hidden_size=32), "embed_tokens.* shape .320, 64., by config.json it is .320, 32."),
        (dict(vocab_size=400), "embed_tokens.* by config.json it is .400, 64."),
    ],
    ids=str,
)
def test_a_config_of_another_size_is_named(copy, tmp_path, changes, message):
    change_json(copy / "config.json", **changes)
    assert_import_refused(copy, tmp_path, message)


def test_tensors_that_follow_from_the_config_are_ignored(copy, tmp_path):
    rewrite(copy, lambda tensors: tensors.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8)}))
    conversion.import_hf(str(copy), str(tmp_path / "run"))


def test_a_stored_head_of_a_tied_model_must_be_the_embedding(copy, tmp_path):
    change_json(copy / "config.json", tie_word_embeddings=True)
    assert_import_refused(copy, tmp_path, "lm_head.weight is not the embedding")
    rewrite(copy, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"]}))
    conversion.import_hf(str(copy), str(tmp_path / "run"))
    assert "head" not in conversion.load_model(str(tmp_path / "run"), random_model.mesh()).params


def test_missing_and_damaged_files_are_named(original, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_folder, "SHARD_BYTES", 200_000)
    folder = tmp_path / "sharded"
    conversion.export_hf(str(original[0] / "run"), str(folder), "float32")
    shard = next(folder.glob("model-00002-of-*.safetensors"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert_import_refused(folder, tmp_path, f"{shard.name} is damaged or cut off")
    first = next(folder.glob("model-00001-of-*.safetensors"))
    shard.write_bytes(first.read_bytes())
    assert_import_refused(folder, tmp_path, f"{shard.name} lacks the tensor model.layers")
    shard.unlink()
    assert_import_refused(folder, tmp_path, f"lacks the file {shard.name}")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ')
    assert_import_refused(folder, tmp_path, "index.json is no valid JSON")
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model.bin").write_text("")
    assert_import_refused(folder, tmp_path, "neither model.safetensors nor .*, only pytorch_model.bin")
    (folder / "config.json").unlink()
    assert_import_refused(folder, tmp_path, "there is no file .*config.json")


def test_the_tokenizer_of_a_larger_model_is_refused(copy, tmp_path):
    rewrite(copy, lambda tensors: tensors.update({n: tensors[n][:90] for n in tensors if tensors[n].shape[0] == 320}))
    change_json(copy / "config.json", vocab_size=90)
    assert_import_refused(copy, tmp_path, "has 96 ids, the model 90")


def test_nothing_that_exists_is_written_over(original, tmp_path):
    run, export = str(original[0] / "run"), str(original[0] / "hf")
    with pytest.raises(ValueError, match="exists already; name a new folder"):
        conversion.export_hf(run, export, "float32")
    with pytest.raises(ValueError, match="holds checkpoints already; name a new workdir"):
        conversion.import_hf(export, run)


def test_what_is_no_model_is_refused(original, tmp_path):
    run = str(original[0] / "run")
    with pytest.raises(ValueError, match="has no checkpoint of step 7; its newest is 5"):
        conversion.load_model(f"{run}@7", random_model.mesh())
    with pytest.raises(ValueError, match="holds no model"):
        conversion.load_model(str(tmp_path), random_model.mesh())
    with pytest.raises(ValueError, match="is no workdir"):
        conversion.export_hf(str(tmp_path), str(tmp_path / "hf"), "float32")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="holds no complete checkpoint"):
        conversion.load_model(str(tmp_path), random_model.mesh())
    with pytest.raises(ValueError, match="--dtype is 'float16'; expected one of float32, bfloat16"):
        conversion.export_hf(run, str(tmp_path / "hf"), "float16")
