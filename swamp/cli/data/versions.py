"""`swamp data versions`: the history of one data item."""

from __future__ import annotations

from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.data.store import Store
from swamp.data.versions import list_versions


@click.command("versions", epilog=examples("swamp data versions remote-echo result"))
@click.argument("model")
@click.argument("name")
@swamp_options
def command(ctx: Context, model: str, name: str) -> None:
    """List the versions of the data NAME of MODEL, newest first."""
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store, store.read() as tx:
        versions = list_versions(tx, model, name)
    if not ctx.json:
        ctx.table(
            ("VERSION", "CREATED", "SIZE", "CHECKSUM"),
            ((str(version.version), version.created_at, str(version.size), version.checksum) for version in versions),
        )
        return
    newest = versions[0]
    ctx.document(
        {
            "dataName": newest.name,
            "modelId": newest.model_id,
            "modelName": newest.model_name,
            "modelType": newest.model_type,
            "versions": [
                {
                    "version": version.version,
                    "createdAt": version.created_at,
                    "size": version.size,
                    "checksum": version.checksum,
                    "isLatest": version.is_latest,
                }
                for version in versions
            ],
            "total": len(versions),
        }
    )
