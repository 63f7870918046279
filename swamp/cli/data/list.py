"""`swamp data list`: what data there is."""

from __future__ import annotations

from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.data.store import Store
from swamp.data.versions import Version, list_latest


@click.command("list", epilog=examples("swamp data list", "swamp data list remote-echo --json"))
@click.argument("model", required=False)
@swamp_options
def command(ctx: Context, model: str | None) -> None:
    """List the newest version of each data item, of MODEL or of all models."""
    versions = _versions(ctx, model)
    if ctx.json:
        ctx.document({"results": [_document(version) for version in versions], "total": len(versions)})
    elif versions:
        ctx.table(
            ("MODEL", "NAME", "VERSION", "TYPE", "CONTENT TYPE", "SIZE", "CREATED"),
            (
                (
                    version.model_name,
                    version.name,
                    str(version.version),
                    version.data_type,
                    version.content_type,
                    str(version.size),
                    version.created_at,
                )
                for version in versions
            ),
        )
    else:
        ctx.say("There is no data yet." if model is None else f"There is no data of a model '{model}'.")


def _versions(ctx: Context, model: str | None) -> list[Version]:
    if not ctx.repo.database.is_file():
        return []
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store, store.read() as tx:
        return list_latest(tx, model)


def _document(version: Version) -> dict[str, object]:
    return {
        "id": version.id,
        "modelId": version.model_id,
        "modelName": version.model_name,
        "modelType": version.model_type,
        "name": version.name,
        "version": version.version,
        "specName": version.spec_name,
        "dataType": version.data_type,
        "contentType": version.content_type,
        "size": version.size,
        "createdAt": version.created_at,
    }
