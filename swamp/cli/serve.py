"""`swamp serve`: the orchestrator."""

from __future__ import annotations

from pathlib import Path

import click

from swamp.broker import location
from swamp.cli.context import Context, examples, options_with, typed
from swamp.cli.logformat import log_format_option
from swamp.errors import Usage
from swamp.typed import wipe


@click.command(
    "serve",
    epilog=examples(
        "swamp serve",
        "swamp serve --port 9191",
        "swamp serve --host 0.0.0.0 --cert-file orchestrator.pem --key-file orchestrator.key",
        "SWAMP_REDIS_URL=redis://user:password@127.0.0.1:6379/0 swamp serve",
        "SWAMP_REDIS_URL=redis+sentinel://user:password@10.0.0.1:26379,10.0.0.2:26379/mymaster swamp serve",
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
@click.option(
    "--worker-redis-url",
    metavar="URL",
    envvar="SWAMP_WORKER_REDIS_URL",
    help="Where workers find the server of --redis-url, if the address differs for them.",
)
@click.option(
    "--redis-ca-cert",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="SWAMP_REDIS_CA_CERT",
    help="The CA that signed the certificate of a rediss:// server (default: the system's CAs).",
)
@click.option(
    "--insecure-redis",
    is_flag=True,
    envvar="SWAMP_INSECURE_REDIS",
    help="Use a Redis on another machine without TLS: its passwords can then be read on the network.",
)
@click.option(
    "--shared-redis-user",
    is_flag=True,
    envvar="SWAMP_SHARED_REDIS_USER",
    help="Let workers use the account of --redis-url, where it may make no users: nothing confines them in Redis then.",
)
@click.option(
    "--cert-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="SWAMP_CERT_FILE",
    help="Serve https and wss with this certificate (PEM, with its chain).",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="SWAMP_KEY_FILE",
    help="The certificate's key (PEM, not encrypted; default: in the file of the certificate).",
)
@click.option(
    "--insecure-bind",
    is_flag=True,
    envvar="SWAMP_INSECURE_BIND",
    help="Listen for other machines without TLS. Joining, steps and results stay sealed; names, sizes and times show.",
)
@click.option(
    "--remote-only",
    is_flag=True,
    envvar="SWAMP_REMOTE_ONLY",
    help="Run no step on this machine: refuse workflows with a step that has no target.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    envvar="SWAMP_ALLOWED_HOST",
    help="A name by which commands on other machines ask for this one, besides those in the certificate (repeatable).",
)
@log_format_option
@options_with("Write the log as JSON, one object a line.")
def command(
    ctx: Context,
    host: str,
    port: int,
    redis_url: str | None,
    worker_redis_url: str | None,
    redis_ca_cert: Path | None,
    insecure_redis: bool,
    shared_redis_user: bool,
    cert_file: Path | None,
    key_file: Path | None,
    insecure_bind: bool,
    remote_only: bool,
    allowed_hosts: tuple[str, ...],
) -> None:
    """Run the orchestrator of this repository.

    Workers join it, `swamp workflow run` hands it runs, and it keeps what the steps produced. It logs to stderr who
    joins and leaves and what becomes of every step. Ctrl-C stops it and everything it started; runs that are not
    finished go on when it is started again. Its port answers /health (it lives) and /ready (work can flow) to
    anybody.

    To be reached from other machines it needs a certificate, or --insecure-bind.
    """
    if key_file is not None and cert_file is None:
        raise Usage("--key-file needs --cert-file", hint="name the certificate that the key belongs to")
    repo = ctx.repo
    if redis_ca_cert is not None and not redis_url:
        raise Usage("--redis-ca-cert is for a server named by --redis-url", hint="add --redis-url rediss://host:6379/0")
    if shared_redis_user and not redis_url:
        raise Usage(
            "--shared-redis-user is for a server named by --redis-url", hint="leave it out: the own server has users"
        )
    if redis_url:
        typed(location.parse, redis_url)

    from swamp.orchestrator.redis_server import RedisOptions
    from swamp.orchestrator.serve import ServeOptions, serve
    from swamp.output.logs import log_to_stderr

    log_to_stderr(as_json=ctx.json)
    redis = RedisOptions(redis_url or None, redis_ca_cert, worker_redis_url or None, insecure_redis, shared_redis_user)
    wipe(*redis.secrets)
    options = ServeOptions(
        host=host,
        port=port,
        redis=redis,
        certificate=cert_file,
        key=key_file,
        insecure_bind=insecure_bind,
        remote_only=remote_only,
        allowed_hosts=allowed_hosts,
    )
    serve(repo, options, ctx.environ)
