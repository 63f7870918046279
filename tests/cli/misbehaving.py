"""A command that ends as its test wants; put into the command table by tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from swamp import errors
from swamp.cli.context import Context, examples, swamp_options

SECRET = "a-secret-in-the-text-of-an-error"


@click.command("misbehave", epilog=examples("swamp misbehave Invalid"))
@click.argument("how")
@swamp_options
def command(ctx: Context, how: str) -> None:
    """End in an error."""
    if how == "unexpected":
        raise KeyError(SECRET)
    if how == "ctrl-c":
        os.kill(os.getpid(), signal.SIGINT)
    if how == "file":
        Path("/nowhere/at/all").read_bytes()
    if how == "repo":
        ctx.out(str(ctx.repo.root))
        return
    raise getattr(errors, how)("what happened", hint="type this\nor that")
