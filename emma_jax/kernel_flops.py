"""What a Pallas kernel for TPU executes: the matmul FLOPs of its Mosaic program over its whole grid.

A compiled program says nothing of what is in a kernel, but carries its program. Every matmul counts in full, padding of
blocks and recomputation included, at each grid step where it runs. A condition on grid indices is evaluated. One on
memory is the block mask of attention: where two grid indices choose the entry, the blocks that reach under the diagonal
run, as in causal attention of documents that are not known beforehand; any other is taken to hold.
"""

import itertools
import math
import operator
import re
from collections.abc import Sequence

from jax.experimental.mosaic.dialects import tpu
from jax.extend.mlir import ir
from jax.interpreters import mlir

_COMPARE = dict(
    zip(range(10), [operator.eq, operator.ne, *[operator.lt, operator.le, operator.gt, operator.ge] * 2], strict=True)
)
_ARITHMETIC = {
    "addi": operator.add, "subi": operator.sub, "muli": operator.mul, "andi": operator.and_, "ori": operator.or_,
    "xori": operator.xor, "divsi": operator.floordiv, "floordivsi": operator.floordiv, "remsi": operator.mod,
    "minsi": min, "maxsi": max, "extui": lambda x: x, "extsi": lambda x: x, "trunci": lambda x: x,
    "index_cast": lambda x: x, "select": lambda test, x, y: x if test else y,
}  # fmt: skip
_DYNAMIC = -(2**63)  # in iteration bounds: a size that is only known when it runs


class _Unknown(Exception):
    """A value that is read from memory, at an address that depends on these grid dims."""

    def __init__(self, dims: frozenset[int]):
        self.dims = dims


def matmul_flops(body: bytes) -> int:
    """FLOPs of all matmuls that the kernel with this program (`custom_call_config.body`, decoded) executes.

    Raises ValueError if the program cannot be read or if its grid is only known when it runs.
    """
    with mlir.make_ir_context() as context:
        tpu.register_dialect(context)
        context.allow_unregistered_dialects = True
        try:
            module = ir.Module.parse(body)
        except Exception as error:  # MLIRError has no public name
            sentence = str(error).splitlines()[0]
            raise ValueError(f"the program of a kernel cannot be read by this jaxlib: {sentence}") from error
        function = next(op for op in module.body.operations if "iteration_bounds" in op.attributes)
        grid = tuple(ir.DenseI64ArrayAttr(function.attributes["iteration_bounds"]))
        if any(size <= 0 for size in grid):
            raise ValueError(f"the grid {grid} of kernel {function.attributes['sym_name']} is not known beforehand")
        return sum(_block_flops(function.regions[0].blocks[0], grid, []))


def _block_flops(block, grid: Sequence[int], guards: list):
    """FLOPs of each matmul in `block` and within, which runs where all `guards` (value, wanted) hold."""
    for op in block.operations:
        op, name = op.operation, _name(op)
        if name in ("tpu.matmul", "vector.contract"):
            yield _flops(op) * _num_steps(grid, guards)
        elif name == "scf.if":
            for region, wanted in zip(op.regions, (True, False), strict=False):
                for inner in region.blocks:
                    yield from _block_flops(inner, grid, [*guards, (op.operands[0], wanted)])
        elif name == "scf.for":
            trips = _trips(op)
            yield from (trips * flops for flops in _block_flops(op.regions[0].blocks[0], grid, guards))
        else:
            for region in op.regions:
                for inner in region.blocks:
                    yield from _block_flops(inner, grid, guards)


def _name(op) -> str:
    """The name of an operation; stored programs have them in a dialect that stays the same from version to version."""
    return op.operation.name.removeprefix("stable_mosaic.")


def _flops(matmul) -> int:
    left, out = (ir.ShapedType(value.type).shape for value in (matmul.operands[0], matmul.results[0]))
    numbers = re.search(r"dot_dimension_numbers<\[([\d, ]*)\]", str(matmul.attributes["dimension_numbers"]))
    if _name(matmul) == "tpu.matmul":
        contracted = [left[int(dim)] for dim in numbers[1].split(",")]
    else:
        right = ir.ShapedType(matmul.operands[1].type).shape
        contracted = [math.isqrt(math.prod(left) * math.prod(right) // math.prod(out))]
    return 2 * math.prod(out) * math.prod(contracted)


def _num_steps(grid: Sequence[int], guards: list) -> int:
    """The number of grid steps at which all guards hold."""
    masks, tests, used = set(), [], set()
    for value, wanted in guards:
        try:
            _evaluate(value, dict.fromkeys(range(len(grid)), 0))
            tests.append((value, wanted))
            used |= _dims(value)
        except _Unknown as unknown:
            if len(unknown.dims) == 2:
                masks.add(unknown.dims)
    used |= {dim for dims in masks for dim in dims}
    axes = sorted(used)

    def runs(point: dict[int, int]) -> bool:
        return all(bool(_evaluate(value, point)) == wanted for value, wanted in tests) and all(
            _under_diagonal(point, grid, *sorted(dims)) for dims in masks
        )

    points = (dict(zip(axes, indices, strict=True)) for indices in itertools.product(*(range(grid[i]) for i in axes)))
    return sum(map(runs, points)) * math.prod(size for dim, size in enumerate(grid) if dim not in used)


def _under_diagonal(point: dict[int, int], grid: Sequence[int], rows: int, columns: int) -> bool:
    """Whether a block reaches under the diagonal of a square that the grid cuts into blocks.

    Which of the two is of queries does not matter for the number of such blocks.
    """
    return point[columns] * grid[rows] < (point[rows] + 1) * grid[columns]


def _evaluate(value, point: dict[int, int]):
    """The integer that `value` has at a grid step; raises _Unknown if it is read from memory."""
    if isinstance(value.owner, ir.Block):
        number = ir.BlockArgument(value).arg_number
        if number in point and _name(value.owner.owner) == "func.func":
            return point[number]
        raise _Unknown(frozenset())
    op = value.owner
    if _name(op) == "arith.constant":
        return int(ir.IntegerAttr(op.attributes["value"]).value) if "dense" not in str(op) else 0
    dialect, _, name = _name(op).partition(".")
    if dialect == "arith" and (name in _ARITHMETIC or name == "cmpi"):
        values = [_evaluate(operand, point) for operand in op.operands]
        if name == "cmpi":
            return _COMPARE[int(ir.IntegerAttr(op.attributes["predicate"]).value)](*values)
        return _ARITHMETIC[name](*values)
    raise _Unknown(_dims(value))


def _dims(value) -> frozenset[int]:
    """The grid dims that `value` depends on, through arithmetic and addresses."""
    if isinstance(value.owner, ir.Block):
        is_index = isinstance(value.type, ir.IntegerType) and _name(value.owner.owner) == "func.func"
        return frozenset([ir.BlockArgument(value).arg_number] if is_index else ())
    return frozenset().union(*(_dims(operand) for operand in value.owner.operands))


def _trips(loop) -> int:
    """How often a loop in a kernel runs; raises ValueError if that depends on values."""
    try:
        low, high, step = (_evaluate(bound, {}) for bound in list(loop.operands)[:3])
    except _Unknown:
        raise ValueError("a loop in a kernel has bounds that are not known beforehand") from None
    return max(0, -(-(high - low) // step))
