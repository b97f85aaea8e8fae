"""The step: against a reference on one device, on meshes, in microbatches; what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from emma_jax import model, optimizer, packing, sharding
from emma_jax.program import build, bytes_per_device


def mesh_of(config, **axes):
    config.sharding.update({"data": 1, "fsdp": -1, "tensor": 1} | axes)
    return sharding.make_mesh(config.sharding)


def run(config, mesh, batches, seed=0):
    program = build(config, mesh)
    state = program.init(jax.random.key(seed))
    losses = []
    for batch in batches:
        placed = {name: jax.device_put(array, program.batch[name].sharding) for name, array in batch.items()}
        state, metrics = program.step(state, placed)
        losses.append(float(metrics["loss"]))
    return losses, state


def reference_losses(config, batches):
    """The same training without a program: unchunked loss, one device, the optimizer outside of jit."""
    graph, _, _ = model.abstract(config.model)
    params = jax.jit(lambda key: model.initialize(config.model, key))(jax.random.key(0))
    transform = optimizer.make(config.optimizer, config.train.steps)
    moments = transform.init(params)

    @jax.jit
    @jax.value_and_grad
    def loss(params, batch):
        llama = nnx.merge(graph, params)
        hidden, _ = llama(batch["tokens"], batch["positions"], batch["segments"])
        losses = optax.softmax_cross_entropy_with_integer_labels(llama.logits(hidden), batch["targets"])
        return jnp.sum(losses * (batch["segments"] > 0)) / np.sum(batch["segments"] > 0)

    losses = []
    for batch in batches:
        value, gradients = loss(params, batch)
        updates, moments = transform.update(gradients, moments, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return losses


def test_ten_steps_equal_the_reference(tiny_config, one_device_mesh, random_batch):
    batches = [random_batch(seed) for seed in range(10)]
    losses, state = run(tiny_config, one_device_mesh, batches)
    np.testing.assert_allclose(losses, reference_losses(tiny_config, batches), rtol=1e-5)
    assert int(state.step) == 10


def test_meshes_agree_with_one_device(tiny_config, one_device_mesh, random_batch):
    tiny_config.model.update(num_heads=8, num_kv_heads=4)  # that four devices can share
    batches = [random_batch(seed) for seed in range(10)]
    expected, _ = run(tiny_config, one_device_mesh, batches)
    for axes in (dict(fsdp=8), dict(fsdp=4, tensor=2), dict(fsdp=2, tensor=4), dict(data=2, fsdp=2, tensor=2)):
        losses, _ = run(tiny_config, mesh_of(tiny_config, **axes), batches)
        np.testing.assert_allclose(losses, expected, rtol=1e-5, err_msg=str(axes))


def test_full_remat_saves_memory(tiny_config, one_device_mesh):
    tiny_config.model.num_layers = 8
    temporary = {}
    for remat in ("none", "full"):
        tiny_config.model.remat = remat
        program = build(tiny_config, one_device_mesh)
        compiled = program.step.lower(program.state, program.batch).compile()
        temporary[remat] = compiled.memory_analysis().temp_size_in_bytes
    assert temporary["full"] < 0.7 * temporary["none"]


def test_padding_has_no_part_in_the_loss(tiny_config, one_device_mesh, random_batch):
    batch, program = random_batch(), build(tiny_config, one_device_mesh)
    params = program.init(jax.random.key(0)).params
    changed = {**batch, "targets": np.where(batch["segments"] > 0, batch["targets"], 5)}
    scores = program.score(params, batch)
    np.testing.assert_array_equal(scores, program.score(params, changed))
    assert np.all(np.asarray(scores)[batch["segments"] == 0] == 0)
    assert np.all(np.asarray(scores)[batch["segments"] > 0] < 0)


def test_the_score_of_a_document_does_not_depend_on_what_shares_its_row(tiny_config, one_device_mesh):
    program = build(tiny_config, one_device_mesh)
    params = program.init(jax.random.key(0)).params
    rng, length = np.random.default_rng(0), tiny_config.pack.row_length
    documents = [(task, rng.integers(0, tiny_config.model.vocab_size, size)) for task, size in enumerate((9, 2, 14))]

    def scores(rows):
        arrays = [packing.model_arrays(row, length) for row in rows]
        batch = {name: np.stack([array[name] for array in arrays]) for name in arrays[0]}
        padding = {name: np.zeros((8 - len(rows), length), np.int32) for name in batch}
        return program.score(params, {name: np.concatenate([batch[name], padding[name]]) for name in batch})

    (together,) = scores([packing.join(documents)])[:1]
    alone = scores([packing.join([document]) for document in documents])
    expected = np.concatenate([row[: len(ids) - 1] for row, (_, ids) in zip(alone, documents, strict=False)])
    np.testing.assert_allclose(together[: len(expected)], expected, atol=1e-5)


def test_abstract_state_is_the_state(tiny_config):
    program = build(tiny_config, mesh_of(tiny_config, fsdp=4, tensor=2))
    state = program.init(jax.random.key(0))
    found = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding.spec), state)
    assert found == jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding.spec), program.state)
    moments = program.state.optimizer[1][0].mu["layers"]["mlp"]["gate"]
    assert moments.sharding.shard_shape(moments.shape) == (2, 8, 32)


def test_initial_parameters_do_not_depend_on_the_mesh(tiny_config, one_device_mesh):
    one = build(tiny_config, one_device_mesh).init(jax.random.key(3)).params
    many = build(tiny_config, mesh_of(tiny_config, fsdp=4, tensor=2)).init(jax.random.key(3)).params
    jax.tree.map(np.testing.assert_array_equal, one, many)


def test_norms_do_not_decay(tiny_config, one_device_mesh, random_batch):
    tiny_config.optimizer.weight_decay = 1e3
    _, state = run(tiny_config, one_device_mesh, [random_batch(seed) for seed in range(3)])
    assert np.abs(state.params["final_norm"] - 1).max() < 0.1
    assert np.abs(state.params["embedding"]).max() > 1  # a decay of lr * 1e3 > 1 overshoots what decays


def test_bytes_of_8b(tiny_config):
    from configs import bilingual

    config = bilingual.get_config()
    program = build(config, mesh_of(config, fsdp=8))
    parameters = 8_030_261_248
    assert bytes_per_device(program.state) * 8 == pytest.approx(16 * parameters, rel=1e-3)


def test_flops_of_8b_are_counted_causally_and_within_documents():
    """Of a row of one document, and of the same row as eight, in GFLOP a token."""
    from configs import bilingual

    config, length = bilingual.get_config().model, 8192
    whole, eighths = (
        float(model.training_flops(config, length, length * (document + 1) / 2)) / length / 1e9
        for document in (length, length // 8)
    )
    assert whole == pytest.approx(45.03 + 6.44, abs=0.01)
    assert eighths == pytest.approx(45.03 + 6.44 / 8, abs=0.01)


def test_the_step_counts_pairs_within_documents(tiny_config, one_device_mesh, random_batch):
    batch = random_batch()
    program = build(tiny_config, one_device_mesh)
    _, metrics = program.step(program.init(jax.random.key(0)), batch)
    segments = batch["segments"]
    pairs = sum(np.sum(np.tril(row[:, None] == row) * (row[:, None] > 0)) for row in segments)
    expected = model.training_flops(tiny_config.model, np.sum(segments > 0), pairs)
    assert float(metrics["model_flops"]) == pytest.approx(float(expected), rel=1e-6)


def test_batch_that_does_not_divide(tiny_config):
    tiny_config.input_pipeline.batch_rows = 20
    with pytest.raises(ValueError, match="batch of 20 rows does not divide over 8 devices; nearest are 16 and 24"):
        build(tiny_config, mesh_of(tiny_config))


def test_microbatches_that_do_not_divide(tiny_config):
    tiny_config.input_pipeline.batch_rows, tiny_config.train.microbatches = 96, 5
    with pytest.raises(ValueError, match="12 rows of a device do not divide over 5 train.microbatches; .* 4 and 6"):
        build(tiny_config, mesh_of(tiny_config))


def test_chunk_that_does_not_divide_is_refused_before_any_device(tiny_config, one_device_mesh):
    tiny_config.loss.chunk_length = 7
    with pytest.raises(ValueError, match="chunk_length of 7 does not divide pack.row_length of 24"):
        build(tiny_config, one_device_mesh)
