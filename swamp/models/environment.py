"""Which of a process's environment variables its steps may see. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def step_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a machine, for the steps that run on it: everything but Swamp's own variables, which hold
    tokens, addresses and passwords that a step has no business with. (A keeper adds one that is neither, `SWAMP_STEP`:
    by it the processes of a step are known; see `swamp.models.keeper`.)"""
    return {name: value for name, value in environ.items() if not name.startswith("SWAMP_")}
