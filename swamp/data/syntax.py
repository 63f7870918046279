"""The syntax tree of a CEL expression, as far as a query needs it. Pure.

cel-expr-python shows no tree, but it serializes checked expressions in the format that the CEL specification publishes
(`cel.expr.CheckedExpr`, a protobuf message). This reads that form; field numbers are those of the specification's
`syntax.proto` and `checked.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """A variable (or a type, such as `string`)."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A literal string, int or bool. `value` is None for literals of other kinds."""

    value: str | int | bool | None


@dataclass(frozen=True)
class Call:
    """A function or an operator: `_==_`, `_&&_`, `startsWith` …; what a method is called on is the first argument."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Other:
    """Anything else: member access, lists, maps, and what `exists`, `map` … become.

    `bound` holds the variables that exist only inside of `inner`.
    """

    parts: tuple[Node, ...]
    inner: tuple[Node, ...] = ()
    bound: frozenset[str] = frozenset()


Node = Name | Literal | Call | Other


def read_tree(serialized: bytes) -> Node:
    """The tree of an expression serialized by `cel.Expression.serialize`."""
    checked = _only(serialized, 2)  # google.protobuf.Any: 1 type_url, 2 value
    return _node(_only(checked, 4))  # CheckedExpr: 4 expr


def free_names(node: Node) -> frozenset[str]:
    """The names that an expression takes from outside."""
    match node:
        case Name(name):
            return frozenset((name,))
        case Literal():
            return frozenset()
        case Call(_, arguments):
            return frozenset().union(*map(free_names, arguments))
        case Other(parts, inner, bound):
            return frozenset().union(*map(free_names, parts)) | (frozenset().union(*map(free_names, inner)) - bound)


def literals(node: Node) -> Iterator[Literal]:
    """Every literal in an expression."""
    match node:
        case Literal():
            yield node
        case Call(_, arguments):
            for argument in arguments:
                yield from literals(argument)
        case Other(parts, inner):
            for part in (*parts, *inner):
                yield from literals(part)


def _node(expr: bytes) -> Node:
    for number, value in _fields(expr):  # an Expr holds an id (2) and exactly one of the others
        match number, value:
            case 3, bytes():
                return _literal(value)
            case 4, bytes():
                return Name(_only(value, 1).decode())
            case 5, bytes():  # member access: 1 operand
                return Other((_node(_only(value, 1)),))
            case 6, bytes():
                return _call(value)
            case 7, bytes():  # list: 1 elements
                return Other(tuple(_node(element) for element in _messages(value, 1)))
            case 8, bytes():
                return _map(value)
            case 9, bytes():
                return _comprehension(value)
            case _:
                continue
    return Other(())


def _literal(constant: bytes) -> Literal:
    for number, value in _fields(constant):
        match number, value:
            case 2, int():
                return Literal(bool(value))
            case 3, int():
                return Literal(value - (1 << 64) if value >> 63 else value)
            case 6, bytes():
                return Literal(value.decode())
            case _:
                continue
    return Literal(None)


def _call(call: bytes) -> Call:
    # 1 target (of a method), 2 function, 3 arguments
    return Call(_only(call, 2).decode(), tuple(_node(part) for number in (1, 3) for part in _messages(call, number)))


def _map(structure: bytes) -> Other:
    # 2 entries, each with 3 key (an expression) and 4 value
    entries = _messages(structure, 2)
    return Other(tuple(_node(part) for entry in entries for number in (3, 4) for part in _messages(entry, number)))


def _comprehension(comprehension: bytes) -> Other:
    # 1 iter_var, 2 iter_range, 3 accu_var, 4 accu_init, 5 loop_condition, 6 loop_step, 7 result, 8 iter_var2
    variables = (name.decode() for number in (1, 3, 8) for name in _messages(comprehension, number))
    return Other(
        parts=tuple(_node(part) for number in (2, 4) for part in _messages(comprehension, number)),
        inner=tuple(_node(part) for number in (5, 6, 7) for part in _messages(comprehension, number)),
        bound=frozenset(variables),
    )


def _only(message: bytes, number: int) -> bytes:
    return next(iter(_messages(message, number)), b"")


def _messages(message: bytes, number: int) -> list[bytes]:
    return [value for found, value in _fields(message) if found == number and isinstance(value, bytes)]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: varints as int, everything with a length as bytes, fixed widths as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                number, at = _varint(message, at)
                yield tag >> 3, number
                continue
            case 1:
                length = 8
            case 5:
                length = 4
            case _:
                length, at = _varint(message, at)
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
