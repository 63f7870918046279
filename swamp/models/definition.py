"""A model: a named, configured instance of a type. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelDefinition:
    type: str
    id: str
    name: str
    version: int
    tags: Mapping[str, str]  #: copied to everything that the model produces
    global_arguments: Mapping[str, object]
    methods: Mapping[str, Mapping[str, object]]  #: method name to its arguments
    path: str = field(default="", compare=False)  #: where it was read from, as errors name it
