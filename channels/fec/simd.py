"""Vectors of bytes for Numba kernels: whole registers in, whole registers out.

Numba has no vector type, and LLVM's vectoriser keeps what a loop carries in memory: a check-node update is
three times as fast if its state stays in registers. Each function here is one LLVM instruction on a vector of
LANES bytes, which the compiler splits into what the machine has (two AVX-512, four AVX2, eight NEON
registers). Two registers at a time hide the latency of the chain from edge to edge.
"""

# pyright: basic

import typing

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 128

_BYTE, _INDEX = ir.IntType(8), ir.IntType(32)
_VECTOR = ir.VectorType(_BYTE, LANES)
_ZERO = ir.Constant(_VECTOR, [0] * LANES)
_TWO = ir.Constant(_VECTOR, [2] * LANES)


class _Bytes(types.Type):
    def __init__(self):
        super().__init__(name=f"bytes{LANES}")


@register_model(_Bytes)
class _BytesModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _VECTOR)


_bytes = _Bytes()


@intrinsic
@typing.no_type_check
def load(typingctx, array, index):
    """Load array[index : index + LANES] of a contiguous 8-bit array, at any alignment."""

    def build(context, builder, signature, args):
        return builder.load(_pointer(context, builder, signature, args), align=1)

    return _bytes(array, types.uintp), build


@intrinsic
@typing.no_type_check
def store(typingctx, array, index, value):
    """Store a vector to array[index : index + LANES] of a contiguous 8-bit array."""

    def build(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, signature, args), align=1)
        return context.get_dummy_value()

    return types.void(array, types.uintp, _bytes), build


@typing.no_type_check
def _pointer(context, builder, signature, args):
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), _VECTOR.as_pointer())


@intrinsic
@typing.no_type_check
def fill(typingctx, value):
    """Vector with the same byte in every lane."""

    def build(context, builder, signature, args):
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], ir.Constant(_INDEX, 0))
        every = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
        return builder.shuffle_vector(first, first, every)

    return _bytes(types.uint8), build


@typing.no_type_check
def _operation(operands, build):
    """A function of vectors; its number of operands is part of its type."""
    signature = _bytes(*[_bytes] * operands)

    def compiled(context, builder, signature, args):
        return build(builder, *args)

    if operands == 1:
        return intrinsic(lambda typingctx, a: (signature, compiled))
    if operands == 2:
        return intrinsic(lambda typingctx, a, b: (signature, compiled))
    return intrinsic(lambda typingctx, a, b, x, y: (signature, compiled))


@typing.no_type_check
def _llvm(name, *constants):
    """A call of an LLVM intrinsic."""

    def build(builder, *args):
        args = [*args, *constants]
        kind = ir.FunctionType(_VECTOR, [a.type for a in args])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}i8")
        return builder.call(function, args)

    return build


add = _operation(2, lambda builder, a, b: builder.add(a, b))
subtract = _operation(2, lambda builder, a, b: builder.sub(a, b))
xor = _operation(2, lambda builder, a, b: builder.xor(a, b))
either = _operation(2, lambda builder, a, b: builder.or_(a, b))
add_saturated = _operation(2, _llvm("sadd.sat"))
subtract_saturated = _operation(2, _llvm("ssub.sat"))
subtract_to_zero = _operation(2, _llvm("usub.sat"))  # of unsigned bytes
smaller = _operation(2, _llvm("umin"))  # of unsigned bytes
larger = _operation(2, _llvm("umax"))  # of unsigned bytes
magnitude = _operation(1, _llvm("abs", ir.Constant(ir.IntType(1), 0)))  # unsigned: |-128| = 128
quarter = _operation(1, lambda builder, a: builder.lshr(a, _TWO))  # of unsigned bytes, rounded down
is_zero = _operation(1, lambda builder, a: builder.sext(builder.icmp_signed("==", a, _ZERO), _VECTOR))
negate_where = _operation(  # -a where b is negative
    2, lambda builder, a, b: builder.select(builder.icmp_signed("<", b, _ZERO), builder.sub(_ZERO, a), a)
)
where_equal = _operation(  # x where a == b, else y
    4, lambda builder, a, b, x, y: builder.select(builder.icmp_signed("==", a, b), x, y)
)
