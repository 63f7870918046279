"""One argument of a method: which values it takes, from a file or from a command line. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from swamp.definitions import EXPRESSIONS_BEGIN
from swamp.errors import Invalid
from swamp.expressions.template import parse
from swamp.models.quoting import quoted

Kind = Literal["string", "integer", "boolean", "map"]

_EXAMPLES: Mapping[Kind, str] = {"string": "='some text'", "integer": "=500", "boolean": "=true", "map": ".KEY=value"}
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Argument:
    """One value that a method takes."""

    name: str
    kind: Kind  #: a `map` is text to text
    required: bool
    description: str
    minimum: int | None = None  #: the least integer, or the least number of characters of a string
    #: Of a script for sh: the argument (a map) that adds to its environment. Secrets that the script names become
    #: variables there.
    variables: str = ""

    def check(self, value: object) -> object:
        """`value` as the method takes it. Raises `ValueError` with the rest of a sentence that begins with the name."""
        if self.kind == "string":
            text = _text(value)
            if len(text) < (self.minimum or 0):
                raise ValueError("must not be empty")
            if self.variables and EXPRESSIONS_BEGIN in text:
                quoted(parse(text), str)  # raises where a secret cannot be given to it
            return text
        if self.kind == "integer":
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError("must be a whole number")
            if self.minimum is not None and value < self.minimum:
                raise ValueError(f"must be {self.minimum} or more")
            return value
        if self.kind == "boolean":
            if isinstance(value, str):
                value = _TRUTHS.get(value.lower())
            if not isinstance(value, bool):
                raise ValueError("must be true or false")
            return value
        return _texts(value)


def read_text(argument: Argument, entry: str | None, text: str) -> object:
    """What a command line's `name=text` (or `name.entry=text`, for a map) means. Raises `Invalid`."""
    try:
        if entry is not None:
            if argument.kind != "map":
                raise ValueError(f"is no map, so it has no '{entry}'")
            return argument.check({entry: text})
        return argument.check(_meant(argument.kind, text))
    except ValueError as error:
        example = f"{argument.name}{_EXAMPLES[argument.kind]}"
        raise Invalid(f"argument '{argument.name}' {error}", hint=f"for example: {example}") from error


def _meant(kind: Kind, text: str) -> object:
    if kind == "integer":
        try:
            return int(text)
        except ValueError:
            return text
    if kind == "map":
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError('takes name.KEY=value, or a JSON object such as {"KEY": "value"}') from None
    return text


def _text(value: object) -> str:
    """Text, or what reads back as the same text: `run: true` and `PORT: 8080` are how people write them."""
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    parse(value)  # raises what is wrong with its expressions
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be a map of text to text")
    result = {}
    for key, entry in value.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise ValueError(f"has an entry that cannot be called '{key}'")
        try:
            result[key] = _text(entry)
        except ValueError as error:
            raise ValueError(f"has an entry '{key}' that {error}") from None
    return result
