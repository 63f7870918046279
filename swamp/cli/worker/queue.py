"""`swamp worker queue`: what waits for a worker, since when, and why."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.errors import Unreachable
from swamp.orchestrator import client


@click.command("queue", epilog=examples("swamp worker queue", "swamp worker queue --limit 5 --json"))
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1, max=1000),
    default=20,
    show_default=True,
    help="Show at most so many steps of each target.",
)
@swamp_options
def command(ctx: Context, limit: int) -> None:
    """List the steps that wait for a worker, those that came first at the top of each target: for which target, since
    when, and why.

    Asks the running orchestrator; steps that run are in: swamp worker list
    """
    orchestrator = client.find(ctx.repo)
    if orchestrator is None:
        raise Unreachable(
            "no orchestrator runs for this repository, so nothing is handed out",
            hint="start one with: swamp serve",
            code="no_orchestrator",
        )
    queue = orchestrator.queue(limit)
    waiting = queue["waiting"]
    if ctx.json:
        ctx.document(waiting)
        return
    if waiting:
        ctx.table(
            ("TARGET", "STEP", "RUN", "WAITS SINCE", "WHY"),
            [
                (
                    row["target"],
                    f"{row['workflow'] or '-'} / {row['job']} / {row['step']}",
                    row["run"],
                    row["since"],
                    row["why"],
                )
                for row in waiting
            ],
        )
    if len(waiting) < queue["total"]:
        ctx.say(f"{queue['total'] - len(waiting)} more wait; --limit shows more of each target.")
    elif not waiting:
        ctx.say("No step waits for a worker.")
