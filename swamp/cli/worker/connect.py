"""`swamp worker connect`: join an orchestrator and run its steps here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import click

from swamp.cli.context import Context, examples, options_with, typed, working_directory
from swamp.cli.logformat import log_format_option
from swamp.clock import parse_duration
from swamp.errors import Invalid, NotAllowed, NotFound, SwampError, Usage
from swamp.tls import client_context
from swamp.typed import wipe

_TOKEN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)\.([0-9a-f]{64})")
MOST_SLOTS = 1024
_LONGEST_GRACE = 86400.0  # seconds
_HOW_TO_MINT = "mint one with: swamp worker token create <name> --duration 1h"


@click.command(
    "connect",
    epilog=examples(
        "swamp worker connect ws://localhost:9090 --token build-node.5c40…bc55 --cache-dir /var/lib/swamp-worker",
        "swamp worker connect wss://swamp.example:9090 --ca-cert ca.pem --token-file token.txt --cache-dir ~/worker",
    ),
)
@click.argument("url", envvar="SWAMP_ORCHESTRATOR_URL")
@click.option(
    "--token",
    envvar="SWAMP_WORKER_TOKEN",
    metavar="TOKEN",
    help="The enrollment token; - reads it from stdin. One that is typed is wiped from the list of processes (Linux).",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file that holds the token, read again before every attempt to join; - reads it from stdin.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SWAMP_WORKER_CACHE_DIR",
    metavar="DIR",
    help="Where the worker keeps its identity and what is not delivered yet (default: nowhere).",
)
@click.option(
    "--ca-cert",
    type=click.Path(path_type=Path),
    envvar="SWAMP_CA_CERT",
    metavar="FILE",
    help="The CA that signed the certificates of the orchestrator (wss://) and of Redis (rediss://), instead of the "
    "system's CAs.",
)
@click.option(
    "--concurrency",
    default="auto",
    show_default=True,
    metavar="N|auto",
    envvar="SWAMP_WORKER_CONCURRENCY",
    help="How many steps may run at once; auto: one per processor.",
)
@click.option(
    "--grace",
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="How long running steps may go on after the first Ctrl-C, and when the token has expired (at most an hour): "
    "90s, 15m; a number alone is seconds.",
)
@click.option(
    "--allow-type",
    "allow_types",
    multiple=True,
    envvar="SWAMP_WORKER_ALLOW_TYPE",
    metavar="TYPE",
    help="Run models of this type alone, for example command/shell; may be given several times (default: every type). "
    "Steps of other types fail.",
)
@click.option(
    "--max-dispatches",
    type=click.IntRange(min=1),
    envvar="SWAMP_WORKER_MAX_DISPATCHES",
    metavar="N",
    help="Leave when N steps have ended here (default: never).",
)
@click.option(
    "--idle-timeout",
    envvar="SWAMP_WORKER_IDLE_TIMEOUT",
    metavar="DURATION",
    help="Leave when there was nothing to do for so long: 90s, 15m (default: never).",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    envvar="SWAMP_WORKER_HEALTH_PORT",
    metavar="PORT",
    help="Answer /health and /ready over HTTP on this port of this machine; 0 takes any free one (default: nowhere).",
)
@log_format_option
@options_with("Write the log as JSON, one object a line.")
def command(
    ctx: Context,
    url: str,
    token: str | None,
    token_file: Path | None,
    cache_dir: Path | None,
    ca_cert: Path | None,
    concurrency: str,
    grace: str,
    allow_types: tuple[str, ...],
    max_dispatches: int | None,
    idle_timeout: str | None,
    health_port: int | None,
) -> None:
    """Join the orchestrator at URL (ws://host:port, or wss://) and run the steps of the token's target on this machine.

    The worker reconnects by itself, whatever happens to the orchestrator or the network. Ctrl-C lets running steps
    finish; a second Ctrl-C ends them. It needs no repository. With --health-port, /health says whether the worker
    lives, /ready whether it takes work. A worker that leaves by --max-dispatches or --idle-timeout exits with 0.
    """
    from workers.session import session_url

    typed(session_url, url)
    if ca_cert is not None:
        client_context(ca_cert)
    if token is not None:
        wipe(*_secrets_in(token))
    credentials = _token(ctx, token, token_file)
    directory = _directory(cache_dir)
    slots = _slots(concurrency)
    allowed, patience = _allowed(allow_types), _grace(grace)
    idle = typed(parse_duration, idle_timeout, "--idle-timeout").total_seconds() if idle_timeout is not None else None

    import signal

    from swamp.models.environment import step_environment
    from swamp.output.logs import log_to_stderr
    from workers.identity import Identity
    from workers.worker import Worker, WorkerOptions, log

    try:
        mine = Identity.load_or_create(cache_dir)
    except OSError as error:
        raise Invalid(
            f"the cache directory {cache_dir} cannot be used: {error.strerror or error}",
            hint="choose a directory that this user may write, with --cache-dir",
        ) from error
    with ExitStack() as stack:
        identity = stack.enter_context(closing(mine))
        log_to_stderr(as_json=ctx.json, always={"machine": identity.machine_id})
        if cache_dir is None:
            log.warning(
                "no --cache-dir: after a restart this is another machine to the orchestrator, and results that are "
                "not delivered by then are lost"
            )
        again = _read_again(ctx, token_file, credentials, log.warning)
        options = WorkerOptions(url, again, slots, patience, ca_cert, max_dispatches, idle, allowed)
        hidden = [credentials[1].hex(), *_secrets_in(token or ""), str(cache_dir.resolve()) if cache_dir else ""]
        worker = Worker(options, identity, directory, step_environment(ctx.environ, hidden))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        if health_port is not None:
            from workers.health import HealthServer

            health = stack.enter_context(closing(HealthServer(health_port, worker.why_not_alive, worker.why_not_ready)))
            log.info("health: http://127.0.0.1:%d/health", health.port)
        worker.get_ready()
        log.info("connecting to %s (%d slots)", url, slots)
        if not worker.run():
            raise SystemExit(130)


def _token(ctx: Context, token: str | None, token_file: Path | None) -> tuple[str, bytes]:
    """The token's name and secret. What was typed is in no error message."""
    if token_file is not None:
        try:
            text = ctx.read_stdin().decode() if str(token_file) == "-" else token_file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise NotFound(f"there is no token file {token_file}", hint=_HOW_TO_MINT) from error
        except OSError as error:
            raise Invalid(
                f"the token file {token_file} cannot be read: {error.strerror}",
                hint="name a file that this user may read, or - for stdin",
            ) from error
        except UnicodeDecodeError:
            text = ""  # a file of bytes is no token either; what is in it is not shown
    elif token == "-":  # noqa: S105
        text = ctx.read_stdin().decode(errors="replace")
    elif token is not None:
        text = token
    else:
        raise Usage(
            "no token was given",
            hint=f"use --token, --token-file or SWAMP_WORKER_TOKEN; {_HOW_TO_MINT}",
        )
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise NotAllowed(
            "this is not an enrollment token",
            hint="a token is <name>.<64 hex digits>, as printed by: swamp worker token create <name> --duration 1h",
            code="bad_token",
        )
    return match[1], bytes.fromhex(match[2])


def _read_again(
    ctx: Context, token_file: Path | None, first: tuple[str, bytes], warn: Callable[[str], None]
) -> Callable[[], tuple[str, bytes]]:
    """What the token file holds whenever it is asked; what it held before, while it cannot be read."""
    if token_file is None or str(token_file) == "-":
        return lambda: first
    last, told = first, ""

    def read() -> tuple[str, bytes]:
        nonlocal last, told
        try:
            last, told = _token(ctx, None, token_file), ""
        except SwampError as error:
            if error.message != told:
                told = error.message
                warn(f"{told}; going on with the token that was there before")
        return last

    return read


def _secrets_in(token: str) -> list[str]:
    """What of a typed token nobody may see. Its name may be seen, and tells people which process this is."""
    secret = token.strip().partition(".")[2]
    return [secret] if secret else []


def _directory(cache_dir: Path | None) -> Path:
    """Where steps run. Raises `Invalid` where that is among the worker's own files."""
    directory = working_directory()
    if cache_dir is not None and directory.resolve().is_relative_to(cache_dir.resolve()):
        raise Invalid(
            f"steps would run in the cache directory {cache_dir}, beside the worker's key",
            hint="start the worker in another directory, or choose another one with --cache-dir",
        )
    return directory


def _allowed(types: tuple[str, ...]) -> frozenset[str] | None:
    """None for all; a type that does not exist is a mistyped one, and would leave the worker to refuse everything."""
    from swamp.models.types import find_type

    return frozenset(find_type(name).name for name in types) or None


def _grace(text: str) -> float:
    """In seconds; 0 is a grace as well, though no duration."""
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) <= _LONGEST_GRACE:
            return seconds
    seconds = typed(parse_duration, text, "--grace").total_seconds()
    if seconds > _LONGEST_GRACE:
        raise Usage(f"'{text}' for --grace is longer than a day", hint="choose a shorter duration, for example 15m")
    return seconds


def _slots(concurrency: str) -> int:
    if concurrency == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not concurrency.isdecimal() or not 1 <= int(concurrency) <= MOST_SLOTS:
        raise Usage(
            f"'{concurrency}' is not a number of steps",
            hint=f"write a whole number from 1 to {MOST_SLOTS}, or auto",
        )
    return int(concurrency)
