"""`swamp vault create`: make a vault."""

from __future__ import annotations

import uuid

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.names import check_name
from swamp.vaults.catalog import create_vault
from swamp.vaults.vault import TYPES


@click.command("create", epilog=examples("swamp vault create local_encryption sandbox-vault"))
@click.argument("type", metavar="TYPE")
@click.argument("name")
@swamp_options
def command(ctx: Context, type: str, name: str) -> None:
    """Make a vault called NAME.

    TYPE is local_encryption: secrets are encrypted (AES-256-GCM) files under .swamp/secrets/NAME/, beside their key.
    """
    typed(check_name, name, "vault")
    info = create_vault(ctx.repo, type, name, uuid.uuid4(), ctx.now())
    if ctx.json:
        ctx.document(
            {
                "id": info.id,
                "name": info.name,
                "type": info.type,
                "typeName": TYPES[info.type],
                "config": dict(info.config),
            }
        )
    else:
        ctx.out(f"Created vault: {info.name} ({info.type})")
