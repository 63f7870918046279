"""`swamp redis url`: the address for monitoring tools."""

from __future__ import annotations

import json

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.errors import Invalid, NotAllowed, Unreachable


@click.command("url", epilog=examples("rq info -u $(swamp redis url)", "rq-dashboard -u $(swamp redis url)"))
@click.option("--full", is_flag=True, help="The operator's URL, which may requeue, cancel and delete jobs too.")
@swamp_options
def command(ctx: Context, full: bool) -> None:
    """Print the Redis URL for `rq info`, rq-dashboard and other tools that read RQ's keys.

    The user in it can only read. The URL holds its password: treat it as a secret.
    """
    from urllib.parse import urlencode, urlsplit, urlunsplit

    from swamp.broker.acl import MONITOR_USER, OPERATOR_USER
    from swamp.orchestrator.client import find
    from swamp.orchestrator.keys import load_keys

    keys = load_keys(ctx.repo)
    if keys is None or find(ctx.repo) is None:  # a crashed orchestrator leaves its address behind
        raise Unreachable(
            "no orchestrator runs for this repository, so it has no Redis",
            hint="start one with: swamp serve",
            code="no_orchestrator",
        )
    user, password = (OPERATOR_USER, keys.redis_operator) if full else (MONITOR_USER, keys.redis_monitor)
    try:
        said = json.loads(ctx.repo.serve_info.read_bytes())
        if said["redisUrl"] is None:
            raise Unreachable(
                "the orchestrator has not found Redis yet", hint="its log says whom it asks", code="redis_away"
            )
        if not said["redisUsers"]:
            raise NotAllowed(
                "this Redis has one account for all (--shared-redis-user), and none for tools",
                hint="give your tools the URL that the orchestrator was given",
                code="shared_redis_user",
            )
        split = urlsplit(str(said["redisUrl"]))
        # The tools use redis-py, which takes a private CA from the URL.
        options = urlencode({"ssl_ca_certs": said["redisCaCert"]}) if said["redisCaCert"] else ""
        url = urlunsplit(split._replace(netloc=f"{user}:{password}@{split.netloc}", query=options))
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"{ctx.repo.serve_info} does not say where Redis is",
            hint="stop the orchestrator, and start it again with: swamp serve",
        ) from error
    if ctx.json:
        ctx.document({"url": url, "user": user})
    else:
        ctx.out(url)
