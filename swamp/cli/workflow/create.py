"""`swamp workflow create`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.definitions import new_id, not_text, read
from swamp.errors import Invalid, NotFound, SwampError
from swamp.models.catalog import find_model
from swamp.names import check_name
from swamp.vaults.catalog import read_for_step
from swamp.workflows import catalog, checks
from swamp.workflows.parsing import parse_workflow
from swamp.workflows.scaffold import scaffold, with_id
from swamp.workflows.workflow import document


@click.command(
    "create",
    epilog=examples("swamp workflow create remote-demo", "swamp workflow create remote-demo --file remote-demo.yaml"),
)
@click.argument("name")
@click.option("--file", "file", metavar="FILE", help="Take this YAML instead of a scaffold; - is stdin.")
@swamp_options
def command(ctx: Context, name: str, file: str | None) -> None:
    """Create the workflow NAME: a scaffold to edit, or the YAML in FILE, which is checked first.

    A missing id, or the placeholder <generated-uuid>, is filled in.
    """
    typed(check_name, name, "workflow")
    if file is None:
        text, source = scaffold(name, new_id()), f"workflows/{name}.yaml"
    else:
        text, source = _given(ctx, file)
    workflow = parse_workflow(text, source, new_id=new_id())
    if workflow.name != name:
        raise Invalid(
            f"{source} holds the workflow '{workflow.name}', not '{name}'",
            hint=f"create it with: swamp workflow create {workflow.name} --file {file}",
        )
    unknown: list[SwampError] = []
    for check in checks.steps(workflow, source, partial(find_model, ctx.repo), partial(read_for_step, ctx.repo)):
        if isinstance(check.problem, NotFound) and check.problem.code in ("model_not_found", "no_vault", "no_secret"):
            unknown.append(check.problem)
        elif check.problem is not None:
            raise check.problem
    path = catalog.source_of(ctx.repo, catalog.save(ctx.repo, workflow, with_id(text, workflow)))
    if ctx.json:
        ctx.document({**document(workflow), "path": path})
    else:
        ctx.out(f"Created: {workflow.name}")
        ctx.out(f"Path: {path}")
    for problem in unknown:
        ctx.say(f"Before it can run: {problem.message}")
        for line in (problem.hint or "").splitlines():
            ctx.say(f"  {line}")


def _given(ctx: Context, file: str) -> tuple[str, str]:
    if file == "-":
        try:
            return ctx.read_stdin().decode("utf-8-sig"), "stdin"
        except UnicodeDecodeError as error:
            raise not_text("stdin", error) from error
    try:
        return read(Path(file), file), file
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}", hint="name a YAML file, or - for stdin") from error
    except OSError as error:
        raise Invalid(
            f"{file} cannot be read: {error.strerror}", hint="name a YAML file that this user may read"
        ) from error
