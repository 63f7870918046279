"""CEL expressions over the fields of data: the one typed door to cel-expr-python, which carries its own surprises.

An error of cel-expr-python is a value whose text is true, and some text and numbers do not reach it whole (see
`swamp.data.passage`). Both are dealt with here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]

from swamp.data.passage import Passage
from swamp.data.syntax import Node, free_names, literals, read_tree
from swamp.errors import Invalid
from swamp.names import did_you_mean

_TEXT, _NUMBER, _TRUTH = "text", "number", "truth"
#: Every field of a stored version that a query may name, in the order in which they are shown.
FIELDS: Mapping[str, str] = {
    "id": _TEXT,
    "name": _TEXT,
    "version": _NUMBER,
    "isLatest": _TRUTH,
    "createdAt": _TEXT,
    "modelName": _TEXT,
    "modelType": _TEXT,
    "specName": _TEXT,
    "dataType": _TEXT,
    "contentType": _TEXT,
    "tags": "tags",
    "size": _NUMBER,
    "checksum": _TEXT,
    "attributes": "any",
    "content": _TEXT,
    "workflowName": _TEXT,
    "runId": _TEXT,
    "jobName": _TEXT,
    "stepName": _TEXT,
    "target": _TEXT,
    "machine": _TEXT,
}

_NO_VALUE = (cel.Type.ERROR, cel.Type.UNKNOWN)
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")


class Undecided(Exception):
    """An expression has no value for a row, most often because the row lacks an attribute."""


@dataclass(frozen=True)
class Expression:
    """A checked expression."""

    source: str
    tree: Node
    fields: frozenset[str]  #: the fields that it looks at
    _compiled: Any

    def evaluate(self, row: Mapping[str, object], *, safe: bool) -> object:
        """The value, of plain Python types, for a row that holds at least `fields`. Raises `Undecided`.

        `safe`: nothing in the row needs `passage`; the caller can often tell without a walk through it.
        """
        if safe:
            return self._evaluate(row)
        passage = Passage(row)
        return passage.back(self._evaluate(passage.row))

    def _evaluate(self, row: Mapping[str, object]) -> object:
        result = self._compiled.eval(data=row)
        if result.type() in _NO_VALUE:
            raise Undecided(str(result.value()))
        return result.plain_value()


def compile_expression(source: str, what: str) -> Expression:
    """Check an expression; `what` names it in errors. Raises `Invalid`, listing the fields for an unknown one."""
    if not source.strip():
        raise Invalid(f"the {what} is empty", hint=_EXAMPLES[what])
    try:
        compiled = _environment().compile(source)
    except (RuntimeError, TypeError) as error:  # TypeError: the text is not Unicode
        raise _explained(source, what, str(error)) from error
    tree = read_tree(compiled.serialize())
    if any(isinstance(literal.value, str) and "\0" in literal.value for literal in literals(tree)):
        raise Invalid(f"the {what} holds a NUL character, which cannot be compared", hint="leave it out")
    return Expression(source, tree, free_names(tree) & FIELDS.keys(), compiled)


def compile_predicate(source: str) -> Expression:
    """Check an expression that is to be true or false. Raises `Invalid`."""
    expression = compile_expression(source, "predicate")
    gives = expression._compiled.return_type()
    if gives not in (cel.Type.BOOL, cel.Type.DYN):
        raise Invalid(
            f"the predicate must be true or false, but '{source}' gives {gives.name().lower()}",
            hint='compare it with something, for example: modelName == "remote-echo"',
        )
    return expression


@cache
def _environment() -> cel.Env:
    types = {
        _TEXT: cel.Type.STRING,
        _NUMBER: cel.Type.INT,
        _TRUTH: cel.Type.BOOL,
        "tags": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
        "any": cel.Type.DYN,
    }
    return cel.NewEnv(variables={name: types[kind] for name, kind in FIELDS.items()})


def _explained(source: str, what: str, text: str) -> Invalid:
    unknown = _UNDECLARED.search(text)
    if unknown is not None:
        name = unknown[1].split(".")[0]
        if re.search(rf"\b{re.escape(name)}\s*\(", source):
            return Invalid(f"unknown function '{name}' in the {what}", hint="functions are those of CEL: cel.dev")
        return Invalid(
            f"unknown field '{name}' in the {what}{did_you_mean(name, FIELDS)}",
            hint=f"fields: {', '.join(FIELDS)}   (text is written in quotes)",
            code="unknown_field",
        )
    example = _EXAMPLES[what]
    place = _PLACE.search(text)
    if place is None:
        reason = "it is not Unicode text" if "incompatible function arguments" in text else text.splitlines()[0]
        return Invalid(f"the {what} is not a CEL expression: {reason}", hint=example)
    line, column, reason = place.groups()
    where = f"character {column}" if "\n" not in source else f"line {line}, character {column}"
    # The parser goes on to list every token that could stand there.
    reason = re.sub(r" expecting \{.*", "", reason.removesuffix(" [INVALID_ARGUMENT]"))
    reason = reason.replace("mismatched input '<EOF>'", "it ends too early")
    if "token recognition error at: '= '" in reason or "token recognition error at: '='" in reason:
        reason, example = "'=' compares nothing", "write == to compare"
    return Invalid(f"the {what} is not valid at {where}: {reason}", hint=example)


_EXAMPLES = {
    "predicate": 'an example: modelName == "remote-echo" && attributes.exitCode == 0',
    "selection": "an example: attributes.stdout",
}
