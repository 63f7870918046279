"""The `swamp` command: finds the command's module, and turns every error into text and an exit code."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn, TextIO

import click

import swamp
from swamp.cli.commands import COMMANDS, GROUPS, Words, below, children, unknown_command_hint, words_typed
from swamp.cli.context import NEEDS_A_REPOSITORY, Context, examples, swamp_options
from swamp.errors import Interrupted, NotAllowed, SwampError, Usage

BROKEN_PIPE = 141
"""Exit code when the reader of stdout went away (`swamp … | head`): what a shell shows for SIGPIPE."""

LONGEST_MESSAGE = 2_000  #: characters of a message that are shown; it may repeat what was typed, however long

_SYSTEM_HINTS: Mapping[int, str] = {
    errno.EACCES: "run this as the user who owns it, or change its permissions",
    errno.EPERM: "run this as the user who owns it, or change its permissions",
    errno.ENOSPC: "make room on that disk, then repeat the command",
    errno.EDQUOT: "make room within your quota, then repeat the command",
    errno.EROFS: "that place cannot be written to; choose another one",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "check the path: it is a directory",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then repeat the command",
}


def main() -> NoReturn:
    """The console entry."""
    status = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a terminal that has gone
            _give_up(stream)
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Carry out the command line `arguments` (without the program's name); its exit code."""
    context = Context()
    if sys.stdout is None:  # closed by the caller (`>&-`): who wants no output gets none
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show ✓ must not turn a finished run into an error.
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        status = _carry_out(list(arguments), context)
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        as_json = context.json or context.settings.json or _asks_for_json(arguments)
        return _report(error, context, arguments, as_json=as_json)
    return status


def _carry_out(arguments: list[str], context: Context) -> int:
    group = CommandGroup.at(())
    if "_SWAMP_COMPLETE" in context.environ:
        group.main(arguments, prog_name="swamp")  # the shell asks for completions; exits
    try:
        # `auto_envvar_prefix` gives every option an environment name: SWAMP_VAULT_PUT_YES.
        with group.make_context("swamp", arguments, obj=context, auto_envvar_prefix="SWAMP") as ctx:
            group.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


class CommandGroup(click.Group):
    """The words `path` of the command table. Lists its commands without importing them."""

    path: Words = ()

    @classmethod
    def at(cls, path: Words) -> CommandGroup:
        """The group of the commands that start with `path`."""
        function = swamp_options(_show_help)
        if not path:
            function = click.version_option(swamp.__version__, message="swamp %(version)s")(function)
        group = click.command(
            path[-1] if path else "swamp",
            cls=cls,
            help=GROUPS[path].help,
            epilog=examples(*GROUPS[path].examples),
            invoke_without_command=True,
            context_settings={"help_option_names": ["-h", "--help"]},
        )(function)
        group.path = path
        return group

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(children(self.path))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        words = (*self.path, cmd_name)
        if words in GROUPS:
            return CommandGroup.at(words)
        if words not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[words].module).command
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                parameter.show_envvar = True
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            raise Usage(
                f"unknown command '{' '.join(('swamp', *self.path, args[0]))}'",
                hint=unknown_command_hint(self.path, args),
            )
        return args[0], command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list((below(self.path) if self.path else children(())).items()))


def _show_help(context: Context) -> None:
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is not None or not isinstance(ctx.command, CommandGroup):
        return
    if context.json:
        commands = below(ctx.command.path)
        context.document([{"command": f"{ctx.command_path} {name}", "help": text} for name, text in commands.items()])
    else:
        context.out(ctx.get_help())


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether JSON was asked for on a command line that could not be parsed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


def _report(error: BaseException, context: Context, arguments: Sequence[str], *, as_json: bool) -> int:
    """Tell of `error` on stderr; the exit code."""
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        _give_up(sys.stdout)
        return BROKEN_PIPE
    if context.settings.debug and not isinstance(error, SwampError | click.ClickException):
        traceback.print_exception(error)
    known = _as_swamp_error(error, arguments)
    try:
        sys.stdout.flush()
    except OSError:
        _give_up(sys.stdout)
    text = json.dumps(known.as_dict(), ensure_ascii=False) if as_json else _readable(known)
    if isinstance(error, KeyboardInterrupt) and sys.stderr.isatty():
        text = f"\n{text}"  # the terminal shows ^C without ending the line
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    return known.exit_code


def _readable(error: SwampError) -> str:
    """The error for people. What it repeats, of a file or of what was typed, must not act on the terminal."""
    from swamp.output.text import harmless

    message = error.message
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[: LONGEST_MESSAGE // 2]} … {message[-LONGEST_MESSAGE // 2 :]}"
    return "\n".join(
        [f"Error: {harmless(message)}", *(f"  {harmless(line)}" for line in (error.hint or "").split("\n"))]
    ).rstrip()


def _as_swamp_error(error: BaseException, arguments: Sequence[str]) -> SwampError:
    match error:
        case SwampError():
            return error
        case click.ClickException():
            return _usage(error, arguments)
        case KeyboardInterrupt() | click.Abort() | EOFError():
            return Interrupted("interrupted")
        case OSError() if error.strerror:
            about = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
            kind = NotAllowed if isinstance(error, PermissionError) else SwampError
            return kind(about, hint=_SYSTEM_HINTS.get(error.errno or 0), code="system")
        case _:
            return SwampError(
                f"internal error: {type(error).__name__} at {_place(error)}",
                hint="this is a fault in Swamp; SWAMP_DEBUG=1 shows the whole trace",
                code="internal",
            )


def _usage(error: click.ClickException, arguments: Sequence[str]) -> Usage:
    """A wrong command line in Swamp's words: what is wrong, how the command is written."""
    message = _said_plainly(" ".join(error.format_message().split()).removesuffix("."))
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    hint: list[str] = []
    if isinstance(error, click.NoSuchOption):
        message = f"unknown option '{error.option_name}'"
        if error.option_name == "--server":
            hint.append(NEEDS_A_REPOSITORY)
        elif error.possibilities:
            hint.append(f"did you mean: {' or '.join(error.possibilities)}")
    if ctx is not None:
        usage = " ".join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])
        hint += [f"usage: {usage}", f"more: {ctx.command_path} --help"]
    else:  # click does not say which command's option lacks its value
        hint.append(f"more: {' '.join(('swamp', *words_typed(arguments)))} --help")
    return Usage(message[:1].lower() + message[1:], hint="\n".join(hint) or None)


def _said_plainly(message: str) -> str:
    """click's words for a number that is none or out of range, in words that need no mathematics."""
    message = re.sub(r"is not a valid integer( range)?$", "is not a whole number", message)
    message = re.sub(r"is not in the range (\S+)<=x<=(\S+)$", r"is not a number from \1 to \2", message)
    return re.sub(r"is not in the range x>=(\S+)$", r"is less than \1", message)


def _place(error: BaseException) -> str:
    """Where the error was raised. Its text is left out: it may hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    return f"{'/'.join(Path(frames[-1].filename).parts[-3:])}:{frames[-1].lineno}"


def _give_up(stream: TextIO) -> None:
    """Python flushes once more on its way out; what could not be written must not fail a second time, or that is what
    the command exits with."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _reader_is_gone() -> bool:
    """Whether it was stdout that broke, not some socket whose fault must be told."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False
