"""`swamp serve`: the orchestrator."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, options_with


@click.command(
    "serve",
    epilog=examples(
        "swamp serve",
        "swamp serve --port 9191",
        "SWAMP_REDIS_URL=redis://user:password@127.0.0.1:6379/0 swamp serve",
    ),
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    envvar="SWAMP_HOST",
    help="The address to listen on.",
)
@click.option(
    "--port",
    metavar="PORT",
    default=9090,
    show_default=True,
    type=click.IntRange(0, 65535),
    envvar="SWAMP_PORT",
    help="The port to listen on; 0 takes any free one.",
)
@click.option(
    "--redis-url",
    metavar="URL",
    envvar="SWAMP_REDIS_URL",
    help="The Redis server to use (default: an embedded one, started and stopped with the orchestrator).",
)
@options_with("Write the log as JSON, one object a line.")
def command(ctx: Context, host: str, port: int, redis_url: str | None) -> None:
    """Run the orchestrator of this repository.

    Workers join it, `swamp workflow run` hands it runs, and it keeps what the steps produced. It logs to stderr who
    joins and leaves and what becomes of every step. Ctrl-C stops it and everything it started; runs that are not
    finished go on when it is started again.
    """
    repo = ctx.repo

    from swamp.orchestrator.serve import ServeOptions, serve
    from swamp.output.logs import log_to_stderr

    log_to_stderr(as_json=ctx.json)
    serve(repo, ServeOptions(host, port, redis_url or None), ctx.environ)
