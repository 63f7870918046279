"""Which defence stops which attack: each is taken out in turn, and its attack must then succeed.

A file `bites_<something>.py` beside this one with a tuple `BITES` adds to them. `take_out` patches the product's code
before anything of it runs, in every Python process of the test (see `bitten/sitecustomize.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent

#: Names the bite to the processes of the test.
VARIABLE = "ATTACKS_BITE"


@dataclass(frozen=True)
class Bite:
    name: str  #: the defence, in a few words
    attack: str  #: the test that plays the attack, and fails when it succeeds: `tests/…/test_x.py::test_y`
    take_out: Callable[[], None]


def put(owner: object, name: str, value: object) -> None:
    """Let `owner`, a module or a class, have something else under this name, which it must have."""
    getattr(owner, name)
    setattr(owner, name, value)


def every_bite() -> dict[str, Bite]:
    """By name."""
    files = sorted(HERE.glob("bites_*.py"))
    bites = [bite for file in files for bite in import_module(f"tests.attacks.{file.stem}").BITES]
    found = {bite.name: bite for bite in bites}
    if len(found) != len(bites):
        raise ValueError("two bites have one name")
    return found
