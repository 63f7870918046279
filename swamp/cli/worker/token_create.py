"""`swamp worker token create`: mint an enrollment token, keep it in a vault, show it once."""

from __future__ import annotations

import secrets as random
import shlex
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.clock import iso, parse_duration
from swamp.data.store import Store
from swamp.errors import SwampError, Usage
from swamp.names import check_target
from swamp.orchestrator import client
from swamp.tokens import secrets
from swamp.tokens import store as tokens
from swamp.tokens.token import SECRET_BYTES, Token, document, is_live, mint, parse_max_enrollments, state
from swamp.vaults.catalog import open_vault, the_only_vault


@click.command(
    "create",
    epilog=examples(
        "swamp worker token create build-node --duration 1h",
        "swamp worker token create build-node --duration 1h --print-join-command",
        "swamp worker token create fleet --duration 30d --max-enrollments unlimited --vault main",
        "swamp worker token create fleet --duration 90d --if-missing --output-file /run/swamp/fleet.token",
    ),
)
@click.argument("name")
@click.option(
    "--duration",
    required=True,
    metavar="TIME",
    help="How long its machines may work: 90s, 15m, 1h, 7d, 2w, 3mo, 1y.",
)
@click.option(
    "--vault",
    metavar="NAME",
    help="The vault that keeps it (needed when there are several).",
)
@click.option(
    "--max-enrollments",
    default="1",
    show_default=True,
    metavar="N|unlimited",
    help="How many machines may join with it.",
)
@click.option(
    "--output-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the token into FILE (0600) instead of showing it.",
)
@click.option(
    "--if-missing",
    is_flag=True,
    help="Leave a token of that name as it is, whatever its state; only see to it that FILE holds it.",
)
@click.option(
    "--print-join-command",
    is_flag=True,
    help="Print only the command line that joins a machine, with the token in it (or with the name of its file).",
)
@swamp_options
def command(
    ctx: Context,
    name: str,
    duration: str,
    vault: str | None,
    max_enrollments: str,
    output_file: Path | None,
    if_missing: bool,
    print_join_command: bool,
) -> None:
    """Mint an enrollment token called NAME.

    The machines that join with it serve the steps whose target is NAME. The token is shown once; the vault keeps it
    under the key worker-token-NAME. The name of an expired or revoked token may be used again: its machines are
    forgotten, and have to join with the new token.

    --print-join-command puts the address of the running orchestrator as this machine sees it into the command; from
    other machines it may be another one.

    With --if-missing the command can be repeated, by whatever sets up a machine. An expired token is then left to
    `swamp worker token rotate`, and a revoked one stays revoked.
    """
    typed(check_target, name)
    lifetime = typed(parse_duration, duration, "--duration")
    allowed = typed(parse_max_enrollments, max_enrollments)
    if if_missing and output_file is None:
        raise Usage("--if-missing needs --output-file", hint="a token that is there already is not shown again")
    keeper = the_only_vault(ctx.repo, vault)
    now = ctx.now()
    token, text = mint(name, keeper.name, lifetime, now, random.token_bytes(SECRET_BYTES), allowed)

    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=True)) as store, store.write() as tx:
        before = tokens.find(tx, name)
        if if_missing and before is not None and output_file is not None:
            _left(ctx, tx, before, output_file, now, print_join_command=print_join_command)
            return
        replaced = tokens.add(tx, token, now)
        # After the name was found free, or a live token would lose its secret; before the commit, or a crash here
        # would leave a token that nobody can use and whose name is taken.
        secrets.keep(keeper, token, text, before=text_of(ctx, before))
        if output_file is not None:
            secrets.write_file(output_file, text)

    # Shown before anything else can fail: it will not be shown again.
    if ctx.json:
        told = told_as_json(text, output_file)
        if print_join_command:
            told["joinCommand"] = _join_command(ctx, text, output_file)
        ctx.document({**document(token, [], now), **told})
    elif print_join_command:
        ctx.out(_join_command(ctx, text, output_file))
    else:
        ctx.out(f"Token: {name}")
        ctx.out(f"Expires: {iso(token.expires_at)}")
        if allowed != 1:
            ctx.out(f"Max enrollments: {'unlimited' if allowed is None else allowed}")
        ctx.out(f"Vault: {token.vault} (key {token.vault_key})")
        tell(ctx, text, output_file)

    if replaced:
        # A worker that is still connected with the old token of that name has to go.
        tell_orchestrator(ctx, name, "made anew")


def _left(
    ctx: Context, tx: sqlite3.Connection, token: Token, output_file: Path, now: datetime, *, print_join_command: bool
) -> None:
    """The token was there. Its file may have been lost, or be an old one: a live token is in it afterwards."""
    if is_live(token, now):
        keep_in_file(ctx, token, output_file)
    machines = tokens.bindings(tx, token.name)
    command = _join_command(ctx, "", output_file)
    if ctx.json:
        told = {"tokenFile": str(output_file), **({"joinCommand": command} if print_join_command else {})}
        ctx.document({**document(token, machines, now, tokens.refused_joins(tx, token.name)), **told})
    elif print_join_command:
        ctx.out(command)
    else:
        ctx.out(f"Token: {token.name} (there already, {state(token, bound=bool(machines), now=now)})")
        ctx.out(f"Expires: {iso(token.expires_at)}")


def _join_command(ctx: Context, text: str, output_file: Path | None) -> str:
    """In the environment, not among the arguments, where every user of the machine could read the token."""
    try:
        orchestrator = client.find(ctx.repo)
    except SwampError:
        orchestrator = None
    url = "ws" + orchestrator.url.removeprefix("http") if orchestrator is not None else "ws://localhost:9090"
    where = f"{url} --cache-dir ~/.cache/swamp-worker"
    if output_file is not None:
        return f"swamp worker connect {where} --token-file {shlex.quote(str(output_file))}"
    return f"SWAMP_WORKER_TOKEN={text} swamp worker connect {where}"


# ---------------------------------------------------------------------- also of `swamp worker token rotate`


def text_of(ctx: Context, token: Token | None) -> str | None:
    """What the vault has as the token's text; None where it cannot be read any more."""
    if token is None:
        return None
    try:
        return open_vault(ctx.repo, token.vault).get(token.vault_key)
    except SwampError:
        return None


def keep_in_file(ctx: Context, token: Token, output_file: Path) -> None:
    """Make the file hold the token as its vault has it, and leave one alone that does."""
    text = open_vault(ctx.repo, token.vault).get(token.vault_key)
    if not secrets.holds(output_file, text):
        secrets.write_file(output_file, text)
        ctx.say(f"Written to: {output_file}")


def tell(ctx: Context, text: str, output_file: Path | None) -> None:
    """Show the token once, or say where it was written."""
    if output_file is None:
        ctx.out(f"\n  {text}\n")
        ctx.out("This token is shown once and will not be displayed again — store it now.")
    else:
        ctx.out(f"Written to: {output_file}")


def told_as_json(text: str, output_file: Path | None) -> dict[str, str]:
    return {"token": text} if output_file is None else {"tokenFile": str(output_file)}


def tell_orchestrator(ctx: Context, name: str, happened: str) -> None:
    """The token on disk is valid whether or not a running orchestrator can be told of it."""
    try:
        orchestrator = client.find(ctx.repo)
        if orchestrator is not None:
            orchestrator.token_changed(name)
    except SwampError as error:
        ctx.say(f"Warning: the orchestrator does not know yet that token '{name}' was {happened}: {error.message}")
