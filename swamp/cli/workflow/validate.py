"""`swamp workflow validate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from swamp.cli.checks import Examined, as_problem, show
from swamp.cli.context import Context, examples, swamp_options
from swamp.definitions import Check, read
from swamp.errors import SwampError
from swamp.models.catalog import find_model
from swamp.repo import Repo
from swamp.vaults.catalog import read_for_step
from swamp.workflows import checks
from swamp.workflows.catalog import check_place, find_workflow_file, source_of, workflow_files
from swamp.workflows.parsing import parse_parts


@click.command("validate", epilog=examples("swamp workflow validate", "swamp workflow validate remote-demo"))
@click.argument("workflow", required=False)
@swamp_options
def command(ctx: Context, workflow: str | None) -> None:
    """Check one workflow, named by its name or id, or all of them, with the models they call.

    Exits 1 when a check fails.
    """
    paths = workflow_files(ctx.repo) if workflow is None else [find_workflow_file(ctx.repo, workflow)]
    show(ctx, "workflow", [_examined(ctx.repo, path) for path in paths], one=workflow is not None)


def _examined(repo: Repo, path: Path) -> Examined:
    source = source_of(repo, path)
    try:
        found = parse_parts(read(path, source), source)
        check_place(path, found)
    except (SwampError, OSError) as error:
        return Examined(path.stem, source, [Check("File", as_problem(error))])
    calls = checks.steps(found, source, partial(find_model, repo), partial(read_for_step, repo))
    between = [*checks.structure(found, source), *calls]
    return Examined(path.stem, source, [Check("File"), *between])
