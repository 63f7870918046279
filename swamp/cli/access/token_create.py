"""`swamp access token create`: mint a client token, keep its hash, show it once."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.clock import iso, parse_duration
from swamp.data.store import Store
from swamp.tokens import access
from swamp.tokens.secrets import write_file
from swamp.tokens.token import SECRET_BYTES


@click.command(
    "create",
    epilog=examples(
        "swamp access token create laptop --duration 30d",
        "swamp access token create ci --duration 1y --output-file ci-token.txt",
    ),
)
@click.argument("name")
@click.option(
    "--duration", required=True, metavar="TIME", help="How long it may be used: 90s, 15m, 1h, 7d, 2w, 3mo, 1y."
)
@click.option(
    "--output-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the token into FILE (0600) instead of showing it.",
)
@swamp_options
def command(ctx: Context, name: str, duration: str, output_file: Path | None) -> None:
    """Mint a client token called NAME.

    Who has it may, from another machine, run workflows of this repository, read what they print, cancel them, and see
    the workers: swamp workflow run --server https://host:9090. It is shown once; only a hash of it is kept.
    """
    now = ctx.now()
    token, text = access.mint(
        name, typed(parse_duration, duration, "--duration"), now, secrets.token_bytes(SECRET_BYTES)
    )
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=True)) as store, store.write() as tx:
        access.add(tx, token, now)
        if output_file is not None:  # before the commit: a token that nobody has would only be in the way
            write_file(output_file, text)

    if ctx.json:
        told = {"token": text} if output_file is None else {"tokenFile": str(output_file)}
        ctx.document({**access.document(token, now), **told})
        return
    ctx.out(f"Client token: {name}")
    ctx.out(f"Expires: {iso(token.expires_at)}")
    if output_file is not None:
        ctx.out(f"Written to: {output_file}")
    else:
        ctx.out(f"\n  {text}\n")
        ctx.out("This token is shown once and will not be displayed again — store it now.")
