"""Which part of a query's predicate SQLite can decide. Pure.

Only comparisons of a column with a literal, and `&&`, `||`, `!` over them, are translated. They cannot fail, their
columns are never NULL, and both sides order text by its UTF-8 bytes: so SQLite keeps exactly the rows that CEL would.
"""

from __future__ import annotations

from dataclasses import dataclass

from swamp.data.syntax import Call, Literal, Name, Node

MOST_LITERALS = 200  #: SQLite bounds the depth of a condition; longer ones are left to CEL

_OPERATORS = {"_==_": "=", "_!=_": "<>", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Condition:
    """An SQL condition and the values of its question marks."""

    sql: str
    values: tuple[str | int, ...]


@dataclass(frozen=True)
class Split:
    """A predicate, split: the conditions hold for every matching row, and if `complete`, for no other row."""

    conditions: tuple[Condition, ...]
    complete: bool


def split(predicate: Node, columns: dict[str, str]) -> Split:
    """Take what SQLite can decide out of `predicate`; `columns` maps the names of fields to SQL expressions."""
    conditions: list[Condition] = []
    complete = True
    literals_left = MOST_LITERALS
    for part in _conjuncts(predicate):
        condition = _translate(part, columns)
        if condition is None or len(condition.values) > literals_left:
            complete = False
        else:
            conditions.append(condition)
            literals_left -= max(1, len(condition.values))
    return Split(tuple(conditions), complete)


def _conjuncts(node: Node) -> list[Node]:
    if isinstance(node, Call) and node.function == "_&&_":
        return [part for argument in node.arguments for part in _conjuncts(argument)]
    return [node]


def _translate(node: Node, columns: dict[str, str]) -> Condition | None:
    match node:
        case Literal(bool() as value):
            return Condition("1" if value else "0", ())
        case Name(name) if name in columns:
            return Condition(columns[name], ())  # the type check has made sure that it is a truth value
        case Call("!_", (inner,)):
            condition = _translate(inner, columns)
            return condition and Condition(f"NOT ({condition.sql})", condition.values)
        case Call("_&&_" | "_||_" as function, (left, right)):
            return _both(_translate(left, columns), "AND" if function == "_&&_" else "OR", _translate(right, columns))
        case Call(function, (Name(name), Literal(value))) if function in _OPERATORS and name in columns:
            return _comparison(columns[name], _OPERATORS[function], value)
        case Call(function, (Literal(value), Name(name))) if function in _OPERATORS and name in columns:
            return _comparison(columns[name], _MIRRORED[_OPERATORS[function]], value)
        case _:
            return None


def _both(left: Condition | None, word: str, right: Condition | None) -> Condition | None:
    if left is None or right is None:
        return None
    return Condition(f"({left.sql}) {word} ({right.sql})", left.values + right.values)


def _comparison(column: str, operator: str, value: str | int | None) -> Condition | None:
    return None if value is None else Condition(f"({column}) {operator} ?", (value,))
