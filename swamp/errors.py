"""Every error that a person can meet, on one page.

    SwampError              1   something went wrong; the base of all
    ├── Invalid             1   a file, a name or a value does not hold what it should
    ├── Failed              1   the run, step or check ended without success
    ├── Usage               2   the command line is wrong, as can be seen without looking at anything else
    ├── NotFound            3   the named thing does not exist
    ├── NotAllowed          4   refused: a token, a permission, a policy
    ├── Unreachable         5   an orchestrator or Redis does not answer
    ├── Busy               75   somebody else holds it; try again
    ├── HungUp            129   the terminal was closed
    ├── Interrupted       130   the person pressed Ctrl-C
    └── Terminated        143   somebody sent a TERM signal

The number is the exit code of a command that ends with the error. `swamp.cli.main` is the only place that turns an
error into text and an exit code; everything else raises.
"""

from __future__ import annotations

from typing import ClassVar


class SwampError(Exception):
    """Something went wrong.

    `message` says what happened and to which thing; `hint` says what to type next; `code` is a stable word for
    programs that read `--json` errors.
    """

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code

    def as_dict(self) -> dict[str, str]:
        """The `--json` form of the error."""
        document = {"error": self.message, "code": self.code}
        if self.hint:
            document["hint"] = self.hint
        return document


class Invalid(SwampError):
    """A file, a name or a value does not hold what it should."""

    default_code = "invalid"


class Failed(SwampError):
    """A run, a step or a check ended without success."""

    default_code = "failed"


class Usage(SwampError):
    """The command line is wrong."""

    exit_code = 2
    default_code = "usage"


class NotFound(SwampError):
    """The named thing does not exist."""

    exit_code = 3
    default_code = "not_found"


class NotAllowed(SwampError):
    """Refused: a token, a permission or a policy says no."""

    exit_code = 4
    default_code = "not_allowed"


class Unreachable(SwampError):
    """An orchestrator or a Redis server does not answer."""

    exit_code = 5
    default_code = "unreachable"


class Busy(SwampError):
    """Somebody else holds it; the same command may succeed later."""

    exit_code = 75
    default_code = "busy"


class Interrupted(SwampError):
    """The person at the terminal ended the command."""

    exit_code = 130
    default_code = "interrupted"


class HungUp(SwampError):
    """The terminal of the command was closed."""

    exit_code = 129
    default_code = "hung_up"


class Terminated(SwampError):
    """Somebody sent the command a TERM signal."""

    exit_code = 143
    default_code = "terminated"
