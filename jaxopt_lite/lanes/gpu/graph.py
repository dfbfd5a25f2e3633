"""Scalar expressions over lanes: what is left of a traced function when each of its numbers is a row of lanes.

A node is one elementwise operation on rows `[L]`. Equal expressions are one node, what is known is computed at once,
and only nodes that a result needs are emitted. Used by `scalar`, which makes them from a jaxpr, and by `kernel`, which
emits them inside its loop.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["DTYPES", "Graph", "NotInAKernel", "Scalar", "emit", "number", "reachable"]

DTYPES = ("float32", "float64", "int32", "int64", "uint32", "bool")
"""The dtypes of the rows that a kernel computes with."""

MOST_NODES = 20_000  # a compiler takes minutes for more straight-line code


class NotInAKernel(Exception):
    """Why a function cannot become one kernel, in one sentence; with the primitive to blame and its line."""

    def __init__(self, reason: str, primitive: str = "", line: str = ""):
        super().__init__(reason)
        self.reason, self.primitive, self.line = reason, primitive, line

    def __str__(self) -> str:
        line = f" at {self.line}" if self.line else ""
        return f"{self.reason} (`{self.primitive}`{line})" if self.primitive else self.reason


class Node:
    """One row of lanes: an operation and its operands. A leaf has neither and is identified by its number."""

    __slots__ = ("dtype", "leaf", "number", "operands", "operation")

    def __init__(self, number: int, operation: str, operands: tuple, dtype, leaf: int | None = None):
        self.number, self.operation, self.operands = number, operation, operands
        self.dtype, self.leaf = dtype, leaf


Scalar = Node | np.generic


def is_known(scalar) -> TypeGuard[np.generic]:
    """Whether it is a known number, the same in every lane."""
    return isinstance(scalar, np.generic)


_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_COMMUTING = {"add", "mul", "and", "or", "xor", "eq", "ne"}

# How an operation is written in JAX, where its rows are arrays.
_EMITTED: dict[str, Callable] = {
    "atan2": lax.atan2, "cbrt": lax.cbrt, "select": lambda p, a, b: lax.select_n(p, b, a),
    "rem": lax.rem, "pow": lax.pow, "add": lax.add, "sub": lax.sub, "mul": lax.mul, "div": lax.div, "neg": lax.neg,
    "abs": lax.abs, "and": lax.bitwise_and, "or": lax.bitwise_or, "xor": lax.bitwise_xor, "not": lax.bitwise_not,
    "shift_left": lax.shift_left, "shift_right_arithmetic": lax.shift_right_arithmetic,
    "shift_right_logical": lax.shift_right_logical,
} | {
    name: getattr(lax, name)
    for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "eq", "exp", "exp2", "expm1", "floor",
        "ge", "gt", "le", "log", "log1p", "lt", "ne", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh",
    )
}  # fmt: skip

# Operations that NumPy computes exactly as any device does, to the bit.
_KNOWN: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "floor": np.floor,
    "ceil": np.ceil, "sqrt": np.sqrt, "select": lambda p, a, b: a if p else b,
}  # fmt: skip


class Graph:
    """Makes nodes, each once."""

    def __init__(self):
        self._nodes: dict[Any, Node] = {}
        self.leaves: list[Node] = []

    def leaf(self, dtype) -> Node:
        """A new row, whose values will be given."""
        number = len(self.leaves)
        self.leaves.append(self._intern(("leaf", number), "leaf", (), jnp.dtype(dtype), leaf=number))
        return self.leaves[-1]

    def _intern(self, key, *node, **named) -> Node:
        if key not in self._nodes:
            if len(self._nodes) >= MOST_NODES:
                raise NotInAKernel(
                    f"it is more than {MOST_NODES:,} operations on single numbers, too many for a kernel"
                )
            self._nodes[key] = Node(len(self._nodes), *node, **named)
        return self._nodes[key]

    def __call__(self, operation: str, *operands: Scalar) -> Scalar:
        """The operation on these operands, or what it simplifies to."""
        if operation in _KNOWN and all(map(is_known, operands)):
            with np.errstate(all="ignore"):
                return number(_KNOWN[operation](*operands), _dtype_of(operation, operands))
        simpler = _simplified(operation, operands)
        if simpler is not None:
            return simpler
        keys = [_key(operand) for operand in operands]
        keys = sorted(keys) if operation in _COMMUTING else keys
        return self._intern((operation, *keys), operation, operands, _dtype_of(operation, operands))

    def convert(self, operand: Scalar, dtype) -> Scalar:
        """The operand in another dtype."""
        dtype = jnp.dtype(dtype)
        if operand.dtype == dtype:
            return operand
        if is_known(operand):
            with np.errstate(all="ignore"):
                return number(operand, dtype)
        return self._intern(("convert", _key(operand), dtype), "convert", (operand,), dtype)


def number(value, dtype) -> Any:
    """A known number, as a scalar of this dtype."""
    return np.asarray(value).astype(dtype)[()]


def _key(operand: Scalar):
    """Numbers by their bytes, so that -0 differs from 0, and NaN equals itself."""
    return (1, operand.dtype.name, operand.tobytes()) if isinstance(operand, np.generic) else (0, operand.number)


def _dtype_of(operation: str, operands) -> np.dtype:
    return np.dtype(bool) if operation in _COMPARISONS else operands[-1].dtype


def _is_bool(operand: Scalar) -> bool:
    return operand.dtype == bool


def _simplified(operation: str, operands) -> Scalar | None:
    """What an operation simplifies to, such as x + 0 to x; None if it does not."""
    match operation, operands:
        case ("mul", (a, b)) | ("add", (a, b)) if is_known(a):
            return _simplified(operation, (b, a)) if not is_known(b) else None
        case ("mul" | "div", (a, b)) if is_known(b) and b == 1:
            return a
        case ("add" | "sub", (a, b)) if is_known(b) and b == 0 and not _is_bool(b):
            return a
        case "and" | "or", (a, b) if _is_bool(a) and (is_known(a) or is_known(b)):
            known, other = (a, b) if is_known(a) else (b, a)
            return other if bool(known) == (operation == "and") else known
        case "and" | "or", (a, b) if a is b:
            return a
        case "select", (condition, a, b) if is_known(condition):
            return a if condition else b
        case "select", (_, a, b) if _key(a) == _key(b):
            return a
        case (("neg" | "not"), (Node(operation=inner) as a,)) if inner == operation:
            return a.operands[0]
        case "ne", (Node(operation="convert") as a, b) if is_known(b) and b == 0 and _is_bool(a.operands[0]):
            return a.operands[0]
    return None


def reachable(results: Iterable[Scalar]) -> list[Node]:
    """All nodes that the results need, operands first."""
    ordered: list[Node] = []
    seen: set[int] = set()
    stack = [(node, False) for node in results if isinstance(node, Node)]
    while stack:
        node, done = stack.pop()
        if done:
            ordered.append(node)
        elif node.number not in seen:
            seen.add(node.number)
            stack.append((node, True))
            stack.extend((operand, False) for operand in node.operands if isinstance(operand, Node))
    return ordered


def emit(results: list[Scalar], leaves: list[jax.Array], width: int) -> list[jax.Array]:
    """The rows of the results, given those of the leaves: traces one operation of JAX for each node."""
    rows: dict[int, jax.Array] = {}

    def row(scalar: Any) -> Any:
        return rows[scalar.number] if isinstance(scalar, Node) else scalar

    for node in reachable(results):
        if node.leaf is not None:
            rows[node.number] = leaves[node.leaf]
        elif node.operation == "convert":
            rows[node.number] = lax.convert_element_type(row(node.operands[0]), node.dtype)
        else:
            rows[node.number] = _EMITTED[node.operation](
                *_as_rows(node, [row(operand) for operand in node.operands], width)
            )
    return [row(scalar) if isinstance(scalar, Node) else jnp.full((width,), row(scalar)) for scalar in results]


def _as_rows(node: Node, operands: list, width: int) -> list:
    """Operands for JAX: numbers stay numbers beside rows, unless the operation takes only rows."""
    if node.operation in ("select", "pow", "atan2", "rem") or not any(isinstance(a, jax.Array) for a in operands):
        return [a if isinstance(a, jax.Array) else jnp.full((width,), a) for a in operands]
    return operands
