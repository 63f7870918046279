"""What kinds of models exist, and what their methods take and produce. Pure description: nothing here runs anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["string", "integer", "boolean", "map"]


@dataclass(frozen=True)
class Argument:
    """One value that a method takes."""

    name: str
    kind: Kind  #: a `map` is text to text
    required: bool
    description: str
    minimum: int | None = None  #: the least integer, or the least number of characters of a string


@dataclass(frozen=True)
class OutputSpec:
    """One thing that a method produces."""

    name: str
    data_type: str  #: `resource` (attributes that queries can see) or `file`
    content_type: str
    description: str


@dataclass(frozen=True)
class Method:
    name: str
    description: str
    arguments: tuple[Argument, ...]
    outputs: tuple[OutputSpec, ...]


@dataclass(frozen=True)
class ModelType:
    name: str
    version: str
    description: str
    methods: tuple[Method, ...]
    global_arguments: tuple[Argument, ...] = ()

    def method(self, name: str) -> Method:
        """The method called `name`. Raises `NotFound`."""
        raise NotImplementedError

    def check(self, method: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """The arguments as the method takes them. Raises `Invalid` listing everything that is wrong."""
        raise NotImplementedError


def types() -> Mapping[str, ModelType]:
    """All types by name."""
    raise NotImplementedError
