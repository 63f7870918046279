"""The options of commands that speak to an orchestrator, be it the repository's or one on another machine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click

from swamp.cli.context import Context
from swamp.errors import Invalid, NotAllowed, NotFound, Usage
from swamp.orchestrator.client import Client, find, remote

P = ParamSpec("P")
R = TypeVar("R")

TOKEN = "SWAMP_SERVER_TOKEN"  # noqa: S105 - the name of a variable
_HOW_TO_MINT = "make one in the orchestrator's repository with: swamp access token create <name> --duration 30d"


@dataclass(frozen=True)
class Server:
    """Which orchestrator is meant."""

    url: str | None  #: None: the one of the repository
    token_file: Path | None
    ca_certificate: Path | None

    def elsewhere(self, ctx: Context) -> Client | None:
        """The orchestrator that was named; None if none was. Raises a `SwampError` where it cannot be asked."""
        if self.url is None:
            return None
        return remote(self.url, _token(ctx, self.token_file), self.ca_certificate)

    def orchestrator(self, ctx: Context) -> Client | None:
        """The one that was named, or the repository's, if it runs."""
        return self.elsewhere(ctx) or find(ctx.repo)


def server_options(
    function: Callable[Concatenate[Context, Server, P], R],
) -> Callable[Concatenate[Context, P], R]:
    """Give a command `--server` and what belongs to it, as a `Server` behind the `Context`."""

    @click.option(
        "--server",
        "server_url",
        metavar="URL",
        envvar="SWAMP_SERVER_URL",
        help="The orchestrator on another machine, https://host:port (default: the one of this repository).",
    )
    @click.option(
        "--server-token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        envvar="SWAMP_SERVER_TOKEN_FILE",
        help=f"A file that holds the client token for --server; - reads it from stdin (default: {TOKEN}).",
    )
    @click.option(
        "--ca-cert",
        type=click.Path(path_type=Path),
        metavar="FILE",
        envvar="SWAMP_CA_CERT",
        help="The CA that signed the certificate of --server, instead of the system's CAs.",
    )
    @functools.wraps(function)
    def with_server(ctx: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        url = kwargs.pop("server_url")
        token_file = kwargs.pop("server_token_file")
        ca_certificate = kwargs.pop("ca_cert")
        assert url is None or isinstance(url, str)  # noqa: S101 - click's types, for mypy
        assert token_file is None or isinstance(token_file, Path)  # noqa: S101
        assert ca_certificate is None or isinstance(ca_certificate, Path)  # noqa: S101
        return function(ctx, Server(url or None, token_file, ca_certificate), *args, **kwargs)

    return with_server


def _token(ctx: Context, file: Path | None) -> str:
    """What was given is in no error message."""
    if file is not None:
        try:
            text = (ctx.read_stdin() if str(file) == "-" else file.read_bytes()).decode("ascii", "replace")
        except FileNotFoundError as error:
            raise NotFound(f"there is no token file {file}", hint=_HOW_TO_MINT) from error
        except OSError as error:
            raise Invalid(
                f"the token file {file} cannot be read: {error.strerror}",
                hint="name a file that this user may read, or - for stdin",
            ) from error
    else:
        text = ctx.environ.get(TOKEN, "")
        if not text:
            raise Usage(
                "no client token was given for --server", hint=f"use --server-token-file or {TOKEN}; {_HOW_TO_MINT}"
            )
    text = text.strip()
    if not text.startswith("swamp-client.") or not text.isascii() or any(c.isspace() for c in text):
        raise NotAllowed("this is not a client token", hint=_HOW_TO_MINT, code="bad_token")
    return text
