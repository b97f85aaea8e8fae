"""What a program costs, read off small texts: loops, kernels, collectives, and what hides them."""

import base64
import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

from emma_jax import compiled_cost, hlo_text, kernel_flops, tpu_topology

V5P = tpu_topology.parse("v5p:4x4x4")
MS = 1_750_000  # cycles of v5p in a millisecond
GATHER = 63 / 64 * 64 * 2**20 / (6 * 9e10)  # seconds of gathering 1 MiB from each of 64 chips over six links


def fusion(name, cycles, operand="x", calls="body"):
    config = f'backend_config={{"window_config":{{"estimated_cycles":"{cycles}"}}}}'
    return f"  %{name} = f32[8]{{0}} fusion(%{operand}), kind=kLoop, calls=%{calls}, {config}"


def program(*lines, more=()):
    """A text with these lines between the parameter and the end of its entry, and more computations."""
    return "\n".join(
        [
            "HloModule jit_step, is_scheduled=true",
            "",
            "%body (p: f32[8]) -> f32[8] {",
            "  ROOT %p = f32[8]{0} parameter(0)",
            "}",
            "",
            *more,
            "",
            "ENTRY %main (x: f32[8], shard: bf16[524288]) -> f32[8] {",
            "  %x = f32[8]{0} parameter(0)",
            "  %shard = bf16[524288]{0} parameter(1)",
            *lines,
            "  ROOT %end = f32[8]{0} copy(%x)",
            "}",
            "",
        ]
    )


def gather(opcode="all-gather", operand="shard", shape="bf16[33554432]{0}", name="gathered"):
    return f"  %{name} = {shape} {opcode}(%{operand}), channel_id=1, replica_groups=[1,64]<=[64], dimensions={{0}}"


def test_a_fusion_takes_its_cycles():
    cost = compiled_cost.read(program(fusion("a", MS), fusion("b", 2 * MS)), V5P)
    assert cost.static_seconds == pytest.approx(3e-3)
    assert cost.bound_seconds == cost.static_seconds


LOOP = [
    "%inner (p.1: (s32[], f32[8])) -> (s32[], f32[8]) {",
    "  %p.1 = (s32[], f32[8]{0}) parameter(0)",
    "  %y = f32[8]{0} get-tuple-element(%p.1), index=1",
    fusion("c", MS, operand="y"),
    "  ROOT %t = (s32[], f32[8]{0}) tuple(%y, %y)",
    "}",
    "",
    "%condition (p.2: (s32[], f32[8])) -> pred[] {",
    "  %p.2 = (s32[], f32[8]{0}) parameter(0)",
    "  %i = s32[] get-tuple-element(%p.2), index=0",
    "  %n = s32[] constant(32)",
    "  ROOT %lt = pred[] compare(%i, %n), direction=LT",
    "}",
]
WHILE = [
    "  %zero = s32[] constant(0)",
    "  %start = (s32[], f32[8]{0}) tuple(%zero, %x)",
    "  %loop = (s32[], f32[8]{0}) while(%start), condition=%condition, body=%inner",
]


def test_a_loop_counts_as_often_as_it_runs():
    cost = compiled_cost.read(program(*WHILE, more=LOOP), V5P)
    assert cost.static_seconds == pytest.approx(32e-3)
    assert cost.lines[0].times == 32


def test_a_trip_count_that_the_loop_carries():
    carried = [line.replace("constant(32)", "get-tuple-element(%p.2), index=2") for line in LOOP]
    start = ["  %five = s32[] constant(5)", *(line.replace("%zero, %x", "%zero, %x, %five") for line in WHILE)]
    assert compiled_cost.read(program(*start, more=carried), V5P).static_seconds == pytest.approx(5e-3)


def test_a_loop_that_depends_on_values_has_no_cost():
    unknown = [line.replace("constant(32)", "get-tuple-element(%p.2), index=1") for line in LOOP]
    with pytest.raises(ValueError, match="loop has no trip count in its condition condition"):
        compiled_cost.read(program(*WHILE, more=unknown), V5P)


def test_a_collective_takes_its_bytes_over_the_links_of_its_group():
    cost = compiled_cost.read(program(gather()), V5P)
    assert cost.exposed_collective_seconds == pytest.approx(GATHER)
    assert cost.collectives == {"all-gather": {"count": 1, "bytes": 64 * 2**20}}
    reduced = compiled_cost.read(program(gather("all-reduce", shape="bf16[524288]{0}")), V5P)
    assert reduced.exposed_collective_seconds == pytest.approx(2 * GATHER / 64)


def test_a_group_along_one_dim_has_two_links():
    text = program(gather().replace("[1,64]<=[64]", "[16,4]<=[64]"))
    assert compiled_cost.read(text, V5P).exposed_collective_seconds == pytest.approx(3 * 2**20 / (2 * 9e10))


def test_what_is_scheduled_between_start_and_end_hides_a_collective():
    start = gather("all-gather-start", shape="(bf16[524288]{0}, bf16[33554432]{0})", name="start")
    end = "  %done = bf16[33554432]{0} all-gather-done(%start)"
    cycles = int(GATHER / 2 * 1e3 * MS)
    half = compiled_cost.read(program(fusion("a", MS), start, fusion("b", cycles), end), V5P)
    assert half.exposed_collective_seconds == pytest.approx(GATHER / 2, rel=1e-4)
    assert half.static_seconds == pytest.approx(1e-3 + GATHER / 2, rel=1e-4)
    whole = compiled_cost.read(program(start, fusion("b", MS), end), V5P)
    assert whole.exposed_collective_seconds == 0


def test_two_collectives_share_the_links():
    starts = [
        gather("all-gather-start", shape="(bf16[524288]{0}, bf16[33554432]{0})", name=f"start.{i}") for i in range(2)
    ]
    ends = [f"  %done.{i} = bf16[33554432]{{0}} all-gather-done(%start.{i})" for i in range(2)]
    text = program(*starts, fusion("b", int(1.5e3 * GATHER * MS)), *ends)
    assert compiled_cost.read(text, V5P).exposed_collective_seconds == pytest.approx(GATHER / 2, rel=1e-4)


def fused(name, target="", carried=True):
    """A computation of an asynchronous collective fusion: its start, a part of it, or its end."""
    config = 'backend_config={"async_collective_fusion_config":{"flag_start":"0"}}' if carried else "metadata={}"
    return [
        f"%{name} (s: bf16[524288]) -> bf16[33554432] {{",
        "  %s = bf16[524288]{0} parameter(0)",
        f"{gather(operand='s')}, {config}",
        f'  ROOT %r = bf16[33554432]{{0}} custom-call(%gathered), custom_call_target="{target}"',
        "}",
        "",
    ]


def test_only_fusions_that_carry_a_collective_hide_it():
    more = [*fused("starts", "AsyncCollectiveStart"), *fused("carries"), *fused("ends", "AsyncCollectiveDone")]
    cycles = int(GATHER / 2 * 1e3 * MS)
    lines = [
        fusion("start", 0, "shard", "starts"),
        fusion("apart", MS),
        fusion("carrying", cycles, "shard", "carries"),
        fusion("end", 0, "shard", "ends"),
    ]
    cost = compiled_cost.read(program(*lines, more=more), V5P)
    assert cost.exposed_collective_seconds == pytest.approx(GATHER / 2, rel=1e-4)
    assert cost.collectives["all-gather"]["count"] == 1


def test_a_matmul_counts_where_its_window_meets_no_padding():
    more = [
        "%matmul (l: bf16[512,64,1], r: bf16[64,8,128]) -> bf16[512,8,128] {",
        "  %l = bf16[512,64,1]{1,0,2} parameter(0)",
        "  %r = bf16[64,8,128]{2,1,0} parameter(1)",
        "  ROOT %dot = bf16[512,8,128]{2,1,0} convolution(%l, %r), window={size=8 pad=7_7 rhs_reversal=1}, "
        "dim_labels=bf0_i0o->b0f",
        "}",
    ]
    cost = compiled_cost.read(program(fusion("a", MS, calls="matmul"), more=more), V5P)
    assert cost.matmul_flops == 2 * 512 * 64 * 8 * 128


def test_what_is_not_a_program_is_refused():
    with pytest.raises(ValueError, match="it has no ENTRY"):
        hlo_text.parse("not a program")


def kernel_body(function, *shapes):
    """The program of the one Pallas kernel in a function, as lowered for TPU."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    return [base64.b64decode(body) for body in re.findall(r"\\22body\\22: ?\\22([^\\]*)\\22", text)]


def matmul_kernel(is_run):
    def kernel(left, right, out):
        @pl.when(is_run(pl.program_id(0), pl.program_id(1)))
        def _():
            out[...] = jnp.dot(left[...], right[...], preferred_element_type=jnp.float32).astype(out.dtype)

    block = pl.BlockSpec((128, 128), lambda i, j: (i, j))
    return pl.pallas_call(
        kernel, grid=(4, 4), in_specs=[block, block], out_specs=block,
        out_shape=jax.ShapeDtypeStruct((512, 512), jnp.bfloat16),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("is_run", "steps"),
    [(lambda i, j: i >= 0, 16), (lambda i, j: i == 1, 4), (lambda i, j: (j <= i) & (i < 3), 6)],
)
def test_matmuls_of_a_kernel_count_at_the_grid_steps_where_they_run(is_run, steps):
    (body,) = kernel_body(matmul_kernel(is_run), (512, 512), (512, 512))
    assert kernel_flops.matmul_flops(body) == steps * 2 * 128**3


def test_causal_attention_counts_the_blocks_that_reach_under_the_diagonal():
    """Forward 2 matmuls, backward of dq 3 and of dk and dv 4: 10 of 16 blocks of each head."""
    length, channels, heads = 512, 128, 2
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((length, length))] * heads)
    names = ["block_q", "block_kv", "block_kv_compute"]
    sizes = {f"{name}{suffix}": 128 for name, suffix in itertools.product(names, ("", "_dkv"))}
    sizes = {name.replace("_compute_dkv", "_dkv_compute"): size for name, size in sizes.items()}
    blocks = splash_attention_kernel.BlockSizes(**sizes, block_q_dq=128, block_kv_dq=128)
    kernel = splash_attention_kernel.make_splash_mha_single_device(mask, block_sizes=blocks)

    def loss(q, k, v):
        return jnp.sum(kernel(q, k, v).astype(jnp.float32))

    bodies = kernel_body(jax.grad(loss, argnums=(0, 1, 2)), *[(heads, length, channels)] * 3)
    one = heads * 10 * 2 * 128 * 128 * channels
    assert sorted(map(kernel_flops.matmul_flops, bodies)) == [2 * one, 3 * one, 4 * one]
