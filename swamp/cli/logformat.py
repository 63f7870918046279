"""`--log-format`, for the commands that run on and log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from swamp.cli.context import Context

F = TypeVar("F", bound=Callable[..., object])


def log_format_option(function: F) -> F:
    """Give a command `--log-format`. It is kept as `--json` is: an error that ends the command is JSON then, too."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar="SWAMP_LOG_FORMAT",
        expose_value=False,
        callback=_keep,
        help="How to write the log: lines for people, or one JSON object a line (as --json does).",
    )(function)


def _keep(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    if value == "json":
        ctx.ensure_object(Context).json = True
