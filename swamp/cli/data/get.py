"""`swamp data get`: one version of one data item."""

from __future__ import annotations

import json
from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.data.store import Store
from swamp.data.versions import Version, find_version, read_content


@click.command(
    "get",
    epilog=examples(
        "swamp data get remote-echo result",
        "swamp data get remote-echo log --content > log.txt",
        "swamp data get remote-echo result --version 3 --json",
    ),
)
@click.argument("model")
@click.argument("name")
@click.option("--version", metavar="N", type=click.IntRange(min=1), help="Default: the newest.")
@click.option(
    "--content/--no-content",
    default=None,
    help="Print the content alone, byte for byte; or all but the content.",
)
@swamp_options
def command(ctx: Context, model: str, name: str, version: int | None, content: bool | None) -> None:
    """Show the data NAME of MODEL: what it is and what it holds."""
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store, store.read() as tx:
        found = find_version(tx, model, name, version)
        held = b"" if content is False else read_content(tx, store.blobs, found)
    if ctx.json:
        document = _document(found)
        ctx.document(document if content is False else {**document, "content": held.decode(errors="replace")})
    elif content:
        ctx.out_bytes(held)
    else:
        for line in _head(found):
            ctx.out(line)
        if content is None:
            ctx.out("")
            ctx.out(_readable(found, held))


def _head(version: Version) -> list[str]:
    origin = version.origin
    tags = ", ".join(f"{key}={value}" for key, value in version.tags.items())
    lines = [
        ("Model", f"{version.model_name} ({version.model_type})"),
        ("Content", f"{version.content_type} ({version.data_type}), {version.size} bytes"),
        ("Checksum", version.checksum),
        ("Tags", tags),
        ("Created", version.created_at),
        ("Run", origin.run_id),
        ("Step", " / ".join(part for part in (origin.workflow_name, origin.job_name, origin.step_name) if part)),
        ("Target", origin.target),
        ("Machine", origin.machine),
    ]
    title = f"Data: {version.name} (v{version.version}{', newest' if version.is_latest else ''})"
    return [title, *(f"{label}: {value}" for label, value in lines if value)]


def _readable(version: Version, content: bytes) -> str:
    try:
        text = content.decode()
        if "\0" in text:
            raise ValueError
    except ValueError:
        return f"({len(content)} bytes that are not text; --content prints them)"
    if version.content_type == "application/json":
        try:
            return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            return text  # whoever made it called it JSON; it is shown as it is
    return text.removesuffix("\n")


def _document(version: Version) -> dict[str, object]:
    origin = version.origin
    return {
        "id": version.id,
        "name": version.name,
        "modelId": version.model_id,
        "modelName": version.model_name,
        "modelType": version.model_type,
        "version": version.version,
        "isLatest": version.is_latest,
        "createdAt": version.created_at,
        "specName": version.spec_name,
        "dataType": version.data_type,
        "contentType": version.content_type,
        "tags": dict(version.tags),
        "size": version.size,
        "checksum": version.checksum,
        "workflowName": origin.workflow_name,
        "runId": origin.run_id,
        "jobName": origin.job_name,
        "stepName": origin.step_name,
        "target": origin.target,
        "machine": origin.machine,
    }
