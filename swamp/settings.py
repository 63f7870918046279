"""What the environment says about every command. Nothing else in the program reads `os.environ`.

The options of single commands have environment names too; click reads those (see `swamp.cli.main`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_OFF = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True)
class Settings:
    """The environment, read once at the start of a command."""

    json: bool = False
    """`SWAMP_JSON`: answer in JSON, as with `--json`."""
    colour: bool = True
    """False when `NO_COLOR` is set to anything."""
    debug: bool = False
    """`SWAMP_DEBUG`: show the whole trace of an internal error. A trace may show secrets."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All variables, for commands that hand an environment on to a step."""


def from_environment(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. A switch is off when it is absent, empty, `0`, `false`, `no` or `off`."""
    return Settings(
        json=_on(environ, "SWAMP_JSON"),
        colour=not environ.get("NO_COLOR"),
        debug=_on(environ, "SWAMP_DEBUG"),
        environ=environ,
    )


def current() -> Settings:
    """The settings of this process."""
    return from_environment(dict(os.environ))


def _on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() not in _OFF
