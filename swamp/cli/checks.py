"""How `validate` shows what it looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swamp.cli.context import Context
from swamp.definitions import Check
from swamp.errors import Failed, Invalid, SwampError


@dataclass(frozen=True)
class Examined:
    """A definition's file and the checks that were made on it."""

    name: str
    path: str
    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, object]:
        """The `--json` form."""
        return {
            "name": self.name,
            "path": self.path,
            "validations": [check.as_dict() for check in self.checks],
            "passed": self.passed,
        }


def as_problem(error: SwampError | OSError) -> SwampError:
    """A file that cannot even be read is one more finding; the other files are still looked at."""
    if isinstance(error, SwampError):
        return error
    return Invalid(f"the file cannot be read: {error.strerror}", hint="run this as a user who may read it")


def show(ctx: Context, what: str, examined: Sequence[Examined], *, one: bool) -> None:
    """Print the checks of models or workflows (`what`); `one` was asked for by name, else all there are.

    Raises `Failed` unless every check passed.
    """
    failed = [definition for definition in examined if not definition.passed]
    if ctx.json and one:
        ctx.document(examined[0].as_dict())
    elif ctx.json:
        ctx.document({f"{what}s": [definition.as_dict() for definition in examined], "passed": not failed})
    else:
        for definition in examined:
            _show_one(ctx, definition)
        ctx.out(f"{len(examined) - len(failed)} of {len(examined)} {what}s passed")
    if failed:
        names = ", ".join(f"'{definition.name}'" for definition in failed)
        raise Failed(f"validation failed: {what}{'s' if len(failed) > 1 else ''} {names}", code="validation_failed")


def _show_one(ctx: Context, definition: Examined) -> None:
    ctx.out(f"{definition.name}  {definition.path}")
    for check in definition.checks:
        ctx.out(f"  {'✓' if check.passed else '✗'} {check.name}")
        if check.problem is not None:
            ctx.out(f"    {check.problem.message}")
            for line in (check.problem.hint or "").splitlines():
                ctx.out(f"    {line}")
