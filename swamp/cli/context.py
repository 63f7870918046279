"""What every command is given: the repository, the clock, the environment, and the only door to the terminal."""

from __future__ import annotations

import functools
import getpass
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click
from click.core import ParameterSource

from swamp import settings
from swamp.clock import utc_now
from swamp.errors import Failed, Invalid, NotFound, Usage
from swamp.repo import Repo

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
T = TypeVar("T")


NEEDS_A_REPOSITORY = (
    "this command works in a repository only; to an orchestrator elsewhere speak: swamp workflow run, swamp workflow "
    "logs, swamp workflow cancel, swamp worker list"
)


@dataclass
class Context:
    """One command being carried out. stdout is data (`out`, `document`, `table`), stderr is talk (`say`)."""

    settings: settings.Settings = field(default_factory=settings.current)
    clock: Callable[[], datetime] = utc_now
    json: bool = False
    """Answer with one JSON document instead of text."""
    repo_dir: Path | None = None
    """`--repo-dir` as given; most commands want `repo`."""

    @cached_property
    def repo(self) -> Repo:
        """The repository of this command. Raises `NotFound` when there is none."""
        try:
            if self.repo_dir is not None and self.repo_dir.is_absolute():
                return Repo.find(self.repo_dir, self.repo_dir)
            return Repo.find(self.repo_dir, working_directory())
        except NotFound as error:
            if self.environ.get("SWAMP_SERVER_URL"):
                error.hint = f"{NEEDS_A_REPOSITORY}\n{error.hint or ''}"
            raise

    @property
    def environ(self) -> Mapping[str, str]:
        return self.settings.environ

    @property
    def stdin_is_terminal(self) -> bool:
        return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()

    def read_stdin(self) -> bytes:
        """Everything on stdin, to its end; nothing when it is closed."""
        return sys.stdin.buffer.read() if sys.stdin is not None else b""

    @property
    def stdout_is_terminal(self) -> bool:
        return sys.stdout.isatty()

    def now(self) -> datetime:
        return self.clock()

    def out(self, text: str) -> None:
        """Print `text` and a newline to stdout, at once: who reads along in a pipe must not wait for a full buffer."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def out_bytes(self, content: bytes) -> None:
        """Write `content` to stdout as it is, with nothing added."""
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()

    def document(self, value: object) -> None:
        """Print `value` to stdout as JSON."""
        self.out(json.dumps(value, ensure_ascii=False, indent=2))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print columns, left aligned, two spaces apart, nothing wrapped and nothing cut off."""
        lines = [tuple(headers), *(tuple(row) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            self.out("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def say(self, text: str) -> None:
        """Print `text` and a newline to stderr."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question on the terminal; only `y` and `yes` agree.

        Raises `Usage`, naming `-y`, when stdin is no terminal.
        """
        self._need_terminal(question, hint="-y agrees beforehand")
        sys.stdout.flush()
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def require(self, question: str, *, agreed: bool) -> None:
        """Go on only if `agreed` (by `-y`) or confirmed. Raises `Failed` when the person declines."""
        if not agreed and not self.confirm(question):
            raise Failed("not confirmed, nothing was changed", code="canceled")

    def ask_hidden(self, question: str) -> str:
        """A line typed on the terminal without being shown. Raises `Usage` when stdin is no terminal."""
        self._need_terminal(question, hint="give it on stdin")
        return getpass.getpass(f"{question}: ", stream=sys.stderr)

    def _need_terminal(self, question: str, *, hint: str) -> None:
        if not self.stdin_is_terminal:
            raise Usage(f"there is no terminal to ask on: {question}", hint=hint)


def working_directory() -> Path:
    """Where the command was typed. Raises `NotFound` when somebody has removed that directory."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise NotFound(
            "the current directory does not exist any more", hint="type: cd <a directory that exists>"
        ) from None


class PathThatSaysSomething(click.Path):
    """A path that is not empty: `--repo-dir "$UNSET"` must not mean the current directory."""

    def convert(
        self, value: str | PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | PathLike[str]:
        if value == "":
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)


def typed(parse: Callable[Concatenate[str, Q], T], text: str, *more: Q.args, **named: Q.kwargs) -> T:
    """What was typed, read by `parse`. What can be seen to be wrong without looking at anything else is wrong usage,
    whoever sees it: exit code 2, as for what click refuses."""
    try:
        return parse(text, *more, **named)
    except Invalid as error:
        code = None if error.code == Invalid.default_code else error.code
        raise Usage(error.message, hint=error.hint, code=code) from error


def swamp_options(function: Callable[Concatenate[Context, P], R]) -> Callable[P, R]:
    """Give a command the options that every command has, and the `Context` as its first argument."""
    return options_with("Answer with one JSON document.")(function)


def options_with(json_help: str) -> Callable[[Callable[Concatenate[Context, P], R]], Callable[P, R]]:
    """`swamp_options` for a command whose `--json` means something else than one document at its end."""

    def decorate(function: Callable[Concatenate[Context, P], R]) -> Callable[P, R]:
        return _with_options(function, json_help)

    return decorate


def _with_options(function: Callable[Concatenate[Context, P], R], json_help: str) -> Callable[P, R]:
    @click.option(
        "--json",
        is_flag=True,
        envvar="SWAMP_JSON",
        expose_value=False,
        callback=_keep_json,
        help=json_help,
    )
    @click.option(
        "--repo-dir",
        type=PathThatSaysSomething(path_type=Path),
        metavar="DIR",
        envvar="SWAMP_REPO_DIR",
        expose_value=False,
        callback=_keep_repo_dir,
        help="The repository (default: the nearest one at or above the current directory).",
    )
    @functools.wraps(function)
    def with_context(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(click.get_current_context().ensure_object(Context), *args, **kwargs)

    return with_context


def examples(*lines: str) -> str:
    """The Examples section of a command's help, to be passed as `epilog`."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


# Both options exist at every level (`swamp --json vault …`), so one that is absent must not undo one that is given.


def _keep_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Context).json = True


def _keep_repo_dir(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    context = ctx.ensure_object(Context)
    # What was typed wins over the environment, at whichever level it was typed.
    typed = ctx.get_parameter_source("repo_dir") is ParameterSource.COMMANDLINE
    if value is not None and (typed or context.repo_dir is None):
        context.repo_dir = value
