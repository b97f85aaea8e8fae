"""Causal attention within documents as two Pallas kernels for TPUs: the forward pass, and all three gradients at once.

A row is cut into square tiles. Tiles above the diagonal, and tiles whose keys are all of earlier documents than their
queries, are neither read nor computed. Scores are held as [keys, queries], so that what belongs to a query (its
maximum, sum, log-sum, document) lies along the lanes. Queries are rotated in the kernel, keys before it, for each of
them is read many times.

The backward kernel keeps the gradients of a whole row of keys and values in fast memory while it goes through the
queries; so it computes five matmuls a tile, where kernels for queries and for keys apart take seven.
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # of a TPU's vector registers: heads and tiles are multiples of them
MAX_BLOCK = 512
MAX_ROW_BYTES = 32 << 20  # of fast memory for the gradients of a row's keys and values
VMEM_BYTES = 60 << 20
SMALL_CHIPS = ("TPU v2", "TPU v3", "TPU v4")  # whose cores have 16 MiB of fast memory
MASKED = -1e30  # finite: a query that sees nothing of its first tiles must not make NaN


def block_length(length: int) -> int:
    """The longest tile for rows of this length; 0 if there is none.

    >>> block_length(8192), block_length(384), block_length(100)
    (512, 384, 0)
    """
    return next((size for size in range(MAX_BLOCK, 0, -LANES) if length % size == 0), 0)


def fits(length: int, head_dim: int, device_kind: str) -> bool:
    """Whether the kernels can run on rows of this length with heads of this dim, on this kind of device."""
    # An accumulator and two buffers of the output, for keys and for values.
    row_bytes = 2 * (4 + 2 * 2) * length * head_dim
    has_room = row_bytes <= MAX_ROW_BYTES and device_kind not in SMALL_CHIPS
    return block_length(length) > 0 and head_dim % LANES == 0 and has_room


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def document_attention(q_BHLC, k_BKLC, v_BKLC, cos_BLC, sin_BLC, starts_BL, interpret: bool):
    """softmax(rotate(q) k / sqrt(C)) v, as out_BHLC, over the keys from each query's `starts_BL` up to itself.

    Keys are rotated already. `starts_BL` is where in its row the document of a token begins; it never falls along a
    row. `interpret` runs the kernels on any platform, for tests.
    """
    return _forward(q_BHLC, k_BKLC, v_BKLC, cos_BLC, sin_BLC, starts_BL, interpret)[0]


def _forward(q_BHLC, k_BKLC, v_BKLC, cos_BLC, sin_BLC, starts_BL, interpret):
    B, H, L, C = q_BHLC.shape
    grid = _Grid(q_BHLC.shape, k_BKLC.shape[1], interpret)
    out_BHLC, log_sums_BH1L = grid.call(
        "document_attention_forward", _forward_kernel, matmuls=2,
        in_specs=[grid.queries, grid.keys, grid.keys, grid.turns, grid.turns, grid.starts],
        out_specs=[grid.queries, grid.per_query],
        out_shape=[
            jax.ShapeDtypeStruct(q_BHLC.shape, q_BHLC.dtype),
            jax.ShapeDtypeStruct((B, H, 1, L), jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((grid.block, C), q_BHLC.dtype),
            pltpu.VMEM((1, grid.block), jnp.float32),
            pltpu.VMEM((1, grid.block), jnp.float32),
            pltpu.VMEM((C, grid.block), jnp.float32),
        ],
    )(grid.tiles(starts_BL), q_BHLC, k_BKLC, v_BKLC, cos_BLC, sin_BLC, starts_BL[:, None])  # fmt: skip
    out_BHLC, log_sums_BH1L = (checkpoint_name(x, "attention") for x in (out_BHLC, log_sums_BH1L))
    return out_BHLC, (q_BHLC, k_BKLC, v_BKLC, cos_BLC, sin_BLC, starts_BL, out_BHLC, log_sums_BH1L)


def _backward(interpret, saved, gradient_BHLC):
    q_BHLC, k_BKLC, v_BKLC, cos_BLC, sin_BLC, starts_BL, out_BHLC, log_sums_BH1L = saved
    L, C = q_BHLC.shape[2:]
    # What the softmax subtracts from the gradient of its weights: their weighted mean (Dao et al. 2022, equation 4).
    means_BHL = jnp.sum(out_BHLC.astype(jnp.float32) * gradient_BHLC.astype(jnp.float32), axis=-1)
    grid = _Grid(q_BHLC.shape, k_BKLC.shape[1], interpret)
    gradients = grid.call(
        "document_attention_backward", _backward_kernel, matmuls=5,
        in_specs=[
            grid.queries, grid.keys, grid.keys, grid.turns, grid.turns, grid.starts,
            grid.queries, grid.per_query, grid.per_query,
        ],
        out_specs=[grid.queries, grid.key_row, grid.key_row],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q_BHLC, k_BKLC, v_BKLC)],
        scratch_shapes=[
            pltpu.VMEM((grid.block, C), q_BHLC.dtype),
            pltpu.VMEM((grid.block, C), jnp.float32),
            pltpu.VMEM((L, C), jnp.float32),
            pltpu.VMEM((L, C), jnp.float32),
        ],
    )(
        grid.tiles(starts_BL), q_BHLC, k_BKLC, v_BKLC, cos_BLC, sin_BLC, starts_BL[:, None],
        gradient_BHLC, log_sums_BH1L, means_BHL[:, :, None],
    )  # fmt: skip
    return *gradients, None, None, None


document_attention.defvjp(_forward, _backward)


class _Grid:
    """The steps of both kernels, (row, key head, query head of it, tile of queries, tile of keys), and their blocks."""

    def __init__(self, shape, num_kv_heads: int, interpret: bool):
        B, H, L, C = shape
        self.block, self._interpret = block_length(L), interpret
        group, num_tiles = H // num_kv_heads, L // self.block
        self._grid, self._matmul_flops = (B, num_kv_heads, group, num_tiles, num_tiles), B * H * L * L * C
        self.queries = pl.BlockSpec((None, None, self.block, C), lambda b, k, g, i, j, tiles: (b, k * group + g, i, 0))
        self.per_query = pl.BlockSpec(
            (None, None, 1, self.block), lambda b, k, g, i, j, tiles: (b, k * group + g, 0, i)
        )
        self.starts = pl.BlockSpec((None, 1, self.block), lambda b, k, g, i, j, tiles: (b, 0, i))
        self.turns = pl.BlockSpec((None, self.block, C), lambda b, k, g, i, j, tiles: (b, i, 0))
        self.keys = pl.BlockSpec((None, None, self.block, C), lambda b, k, g, i, j, tiles: (b, k, tiles[b, i, j], 0))
        self.key_row = pl.BlockSpec((None, None, L, C), lambda b, k, g, i, j, tiles: (b, k, 0, 0))

    def tiles(self, starts_BL):
        """tiles_BIJ: the tile of keys that is in fast memory at step (i, j); it is computed with where it is j."""
        first_BI = starts_BL[:, :: self.block] // self.block
        steps = jnp.arange(self._grid[-1])
        return jnp.clip(steps[None, None, :], first_BI[:, :, None], steps[None, :, None]).astype(jnp.int32)

    def call(self, name: str, kernel, matmuls: int, in_specs, out_specs, out_shape, scratch_shapes):
        """The kernel as a function of `tiles` and its inputs."""
        return pl.pallas_call(
            kernel,
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=1, grid=self._grid, in_specs=in_specs, out_specs=out_specs,
                scratch_shapes=scratch_shapes,
            ),
            out_shape=out_shape,
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary", "arbitrary"),
                vmem_limit_bytes=VMEM_BYTES,
            ),
            cost_estimate=pl.CostEstimate(
                flops=matmuls * self._matmul_flops, transcendentals=self._matmul_flops // 256, bytes_accessed=0
            ),
            name=name,
            interpret=self._interpret,
        )  # fmt: skip


def _forward_kernel(
    tiles,
    q_ref,
    k_ref,
    v_ref,
    cos_ref,
    sin_ref,
    starts_ref,
    out_ref,
    log_sums_ref,
    q_scratch,
    maxima,
    sums,
    out_scratch,
):
    b, i, j = pl.program_id(0), pl.program_id(3), pl.program_id(4)

    @pl.when(j == 0)
    def begin():
        q_scratch[...] = _rotated(q_ref, cos_ref, sin_ref)
        maxima[...] = jnp.full_like(maxima, MASKED)
        sums[...] = jnp.zeros_like(sums)
        out_scratch[...] = jnp.zeros_like(out_scratch)

    @_when_visible(tiles, b, i, j)
    def add():
        scores_sl = _scores(q_scratch[...], k_ref[...], starts_ref[...], i, j)
        new_maxima = jnp.maximum(maxima[...], jnp.max(scores_sl, axis=0, keepdims=True))
        weights_sl = jnp.exp(scores_sl - new_maxima)
        decay = jnp.exp(maxima[...] - new_maxima)
        maxima[...] = new_maxima
        sums[...] = sums[...] * decay + jnp.sum(weights_sl, axis=0, keepdims=True)
        v_sC = v_ref[...]
        out_scratch[...] = out_scratch[...] * decay + _dot(v_sC, weights_sl.astype(v_sC.dtype), 0, 0)

    @pl.when(j == pl.num_programs(4) - 1)
    def end():
        out_ref[...] = (out_scratch[...] / sums[...]).T.astype(out_ref.dtype)
        log_sums_ref[...] = maxima[...] + jnp.log(sums[...])


def _backward_kernel(
    tiles, q_ref, k_ref, v_ref, cos_ref, sin_ref, starts_ref, gradient_ref, log_sums_ref, means_ref,
    q_gradient_ref, k_gradient_ref, v_gradient_ref, q_scratch, q_sum, k_sum, v_sum,
):  # fmt: skip
    b, g, i, j = (pl.program_id(dim) for dim in (0, 2, 3, 4))
    last_of_queries = j == pl.num_programs(4) - 1

    @pl.when((g == 0) & (i == 0) & (j == 0))
    def begin_keys():
        k_sum[...] = jnp.zeros_like(k_sum)
        v_sum[...] = jnp.zeros_like(v_sum)

    @pl.when(j == 0)
    def begin_queries():
        q_scratch[...] = _rotated(q_ref, cos_ref, sin_ref)
        q_sum[...] = jnp.zeros_like(q_sum)

    @_when_visible(tiles, b, i, j)
    def add():
        q_lC, k_sC, v_sC, gradient_lC = q_scratch[...], k_ref[...], v_ref[...], gradient_ref[...]
        keys = pl.ds(pl.multiple_of(j * k_sC.shape[0], k_sC.shape[0]), k_sC.shape[0])
        weights_sl = jnp.exp(_scores(q_lC, k_sC, starts_ref[...], i, j) - log_sums_ref[...])
        v_sum[keys] += _dot(weights_sl.astype(gradient_lC.dtype), gradient_lC, 1, 0)
        score_gradients_sl = (weights_sl * (_dot(v_sC, gradient_lC, 1, 1) - means_ref[...])).astype(k_sC.dtype)
        k_sum[keys] += _dot(score_gradients_sl, q_lC, 1, 0)
        q_sum[...] += _dot(score_gradients_sl, k_sC, 0, 0)

    @pl.when(last_of_queries)
    def end_queries():
        # The transpose of `_rotated`.
        sum_lC = q_sum[...] * q_sum.shape[1] ** -0.5
        turned_lC = sum_lC * cos_ref[...] + _swap_halves(sum_lC * sin_ref[...])
        q_gradient_ref[...] = turned_lC.astype(q_gradient_ref.dtype)

    @pl.when((g == pl.num_programs(2) - 1) & (i == pl.num_programs(3) - 1) & last_of_queries)
    def end_keys():
        k_gradient_ref[...] = k_sum[...].astype(k_gradient_ref.dtype)
        v_gradient_ref[...] = v_sum[...].astype(v_gradient_ref.dtype)


def _when_visible(tiles, b, i, j):
    def decorator(body):
        @pl.when(j <= i)
        def under_the_diagonal():
            pl.when(tiles[b, i, j] == j)(body)

    return decorator


def _scores(q_lC, k_sC, starts_1l, i, j):
    """Masked scores of a tile, float32 [keys, queries]."""
    scores_sl = _dot(k_sC, q_lC, 1, 1)
    keys = j * k_sC.shape[0] + jax.lax.broadcasted_iota(jnp.int32, scores_sl.shape, 0)
    queries = i * q_lC.shape[0] + jax.lax.broadcasted_iota(jnp.int32, scores_sl.shape, 1)
    return jnp.where((keys >= starts_1l) & (keys <= queries), scores_sl, MASKED)


def _rotated(q_ref, cos_ref, sin_ref):
    """The queries of a tile, rotated and divided by sqrt(C)."""
    q_lC = q_ref[...].astype(jnp.float32)
    rotated_lC = q_lC * cos_ref[...] + _swap_halves(q_lC) * sin_ref[...]
    return (rotated_lC * q_lC.shape[1] ** -0.5).astype(q_ref.dtype)


def _swap_halves(x_lC):
    return pltpu.roll(x_lC, x_lC.shape[1] // 2, 1)


def _dot(x, y, x_dim: int, y_dim: int):
    return jax.lax.dot_general(x, y, (((x_dim,), (y_dim,)), ((), ())), preferred_element_type=jnp.float32)
