"""`swamp model validate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from swamp.cli.checks import Examined, as_problem, show
from swamp.cli.context import Context, examples, swamp_options
from swamp.definitions import Check
from swamp.errors import SwampError
from swamp.models.catalog import find_model_file, load_model, model_files
from swamp.models.definition import checks
from swamp.repo import Repo
from swamp.vaults.catalog import read_for_step


@click.command("validate", epilog=examples("swamp model validate", "swamp model validate remote-echo"))
@click.argument("model", required=False)
@swamp_options
def command(ctx: Context, model: str | None) -> None:
    """Check one model, named by its name or id, or all of them. Exits 1 when a check fails."""
    paths = model_files(ctx.repo) if model is None else [find_model_file(ctx.repo, model)]
    show(ctx, "model", [_examined(ctx.repo, path) for path in paths], one=model is not None)


def _examined(repo: Repo, path: Path) -> Examined:
    shown = path.relative_to(repo.root).as_posix()
    try:
        found = load_model(repo, path)
    except (SwampError, OSError) as error:
        return Examined(path.stem, shown, [Check("File", as_problem(error))])
    return Examined(path.stem, shown, [Check("File"), *checks(found, partial(read_for_step, repo))])
