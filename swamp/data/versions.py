"""Versions of data: how they are added and found again. A version never changes; the newest one is `latest`."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swamp.data.blobs import INLINE_LIMIT, put_blobs, read_blob
from swamp.data.ids import new_version_id
from swamp.data.record import Blob, Origin, Output
from swamp.errors import NotFound
from swamp.names import did_you_mean
from swamp.values import value


@value
class NewData:
    """An output that becomes a version."""

    model_id: str
    model_name: str
    model_type: str
    output: Output
    origin: Origin
    created_at: str  #: ISO 8601, as `swamp.clock.iso` writes it


@value
class Added:
    """What an output became."""

    id: str
    name: str
    version: int
    spec_name: str


@dataclass(frozen=True)
class Version:
    """One stored version. Its content is fetched with `read_content`."""

    id: str
    model_id: str
    name: str
    version: int
    is_latest: bool  #: at the moment of the reading transaction
    created_at: str
    model_name: str
    model_type: str
    spec_name: str
    data_type: str
    content_type: str
    tags: Mapping[str, str]
    size: int  #: bytes
    checksum: str  #: SHA-256, hex
    origin: Origin


#: True for rows `d` of the table `data` that no later version has replaced.
IS_LATEST = (
    "NOT EXISTS (SELECT 1 FROM data AS newer"
    " WHERE newer.model_id = d.model_id AND newer.name = d.name AND newer.version > d.version)"
)

#: The row ids of all newest versions. Jumps through the index from one (model, name) to the next, so that the cost
#: depends on how many names there are, not on how many versions.
LATEST_ROWS = """
WITH RECURSIVE latest (id, model_id, name) AS (
    SELECT * FROM (SELECT rowid, model_id, name FROM data ORDER BY model_id DESC, name DESC, version DESC LIMIT 1)
    UNION ALL
    SELECT below.rowid, below.model_id, below.name FROM latest, data AS below WHERE below.rowid = coalesce(
        (SELECT rowid FROM data WHERE model_id = latest.model_id AND name < latest.name
         ORDER BY name DESC, version DESC LIMIT 1),
        (SELECT rowid FROM data WHERE model_id < latest.model_id
         ORDER BY model_id DESC, name DESC, version DESC LIMIT 1)
    )
)
SELECT id FROM latest
"""

_COLUMNS = (
    f"d.id, d.model_id, d.name, d.version, {IS_LATEST}, d.created_at, d.model_name, d.model_type, d.spec_name,"
    " d.data_type, d.content_type, d.tags, d.size, d.checksum,"
    " d.workflow_name, d.run_id, d.job_name, d.step_name, d.target, d.machine"
)

_INSERT = """
INSERT INTO data (id, model_id, name, version, created_at, model_name, model_type, spec_name, data_type, content_type,
                  tags, size, checksum, content, workflow_name, run_id, job_name, step_name, target, machine)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def add_versions(
    tx: sqlite3.Connection,
    blobs: Path,
    items: Sequence[NewData],
    new_id: Callable[[], str] = new_version_id,
) -> list[Added]:
    """Add each item as the next version of its (model, name), in order, within the caller's write transaction.

    Content over `INLINE_LIMIT` is on the disk before its row is inserted. A caller that holds big content may
    `put_blobs` it before the transaction begins, so that other writers do not wait for the disk; doing it again here
    costs little. Raises `Busy` (`disk_full`).
    """
    contents = [_placed(item.output.content) for item in items]
    put_blobs(
        blobs,
        (
            (content.checksum, item.output.content)
            for item, content in zip(items, contents, strict=True)
            if isinstance(item.output.content, bytes) and content.inline is None
        ),
    )
    newest: dict[tuple[str, str], int] = {}
    added: list[Added] = []
    rows: list[tuple[object, ...]] = []
    for item, content in zip(items, contents, strict=True):
        output, origin = item.output, item.origin
        key = (item.model_id, output.name)
        before = newest[key] if key in newest else _newest(tx, *key)
        version = newest[key] = before + 1
        identity = new_id()
        added.append(Added(identity, output.name, version, output.spec_name))
        rows.append(
            (
                identity, item.model_id, output.name, version, item.created_at, item.model_name, item.model_type,
                output.spec_name, output.data_type, output.content_type, _tags_text(output.tags),
                content.size, content.checksum, content.inline,
                origin.workflow_name, origin.run_id, origin.job_name, origin.step_name, origin.target, origin.machine,
            )
        )  # fmt: skip
    tx.executemany(_INSERT, rows)
    return added


def find_version(tx: sqlite3.Connection, model: str, name: str, version: int | None = None) -> Version:
    """The named version (the newest by default) of `name` of the model with this name or id.

    Should several models have had the name in turn, the last one to write is meant. Raises `NotFound`.
    """
    version_or_any = "AND version = :version" if version is not None else ""
    for column in ("model_name", "model_id"):
        last = tx.execute(
            f"SELECT max(rowid) FROM data WHERE {column} = :model AND name = :name {version_or_any}",  # noqa: S608
            {"model": model, "name": name, "version": version},
        ).fetchone()[0]
        if last is not None:
            row = tx.execute(f"SELECT {_COLUMNS} FROM data AS d WHERE d.rowid = ?", (last,)).fetchone()  # noqa: S608
            return _version(row)
    what = f"'{name}' of model '{model}'"
    if version is not None:
        find_version(tx, model, name)  # says so if there is no such data at all
        raise NotFound(
            f"{what} has no version {version}", hint=f"see which there are: swamp data versions {model} {name}"
        )
    raise _no_data(tx, model, name)


def _no_data(tx: sqlite3.Connection, model: str, name: str) -> NotFound:
    names = [row[0] for row in tx.execute("SELECT DISTINCT name FROM data WHERE model_name = ?", (model,))]
    if names:
        return NotFound(
            f"there is no data '{name}' of model '{model}'{did_you_mean(name, names)}",
            hint=f"see what there is: swamp data list {model}",
            code="no_data",
        )
    models = [row[0] for row in tx.execute("SELECT DISTINCT model_name FROM data")]
    return NotFound(
        f"there is no data of a model '{model}'{did_you_mean(model, models)}",
        hint="see what there is: swamp data list",
        code="no_data",
    )


def list_versions(tx: sqlite3.Connection, model: str, name: str) -> list[Version]:
    """All versions of `name` of the model with this name or id, newest first. Raises `NotFound` if there is none."""
    newest = find_version(tx, model, name)
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM data AS d WHERE d.model_id = ? AND d.name = ? ORDER BY d.version DESC",  # noqa: S608
        (newest.model_id, newest.name),
    )
    return [_version(row) for row in rows]


def list_latest(tx: sqlite3.Connection, model: str | None = None) -> list[Version]:
    """The newest version of every name, of one model (by name or id) or of all, sorted by model and name."""
    where = "d.model_name = :model OR d.model_id = :model" if model is not None else "1"
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM data AS d WHERE d.rowid IN ({LATEST_ROWS}) AND ({where})"  # noqa: S608
        " ORDER BY d.model_name, d.name, d.rowid",
        {"model": model},
    )
    return [_version(row) for row in rows]


def is_stored(tx: sqlite3.Connection, checksum: str) -> bool:
    """Whether any version has this content."""
    return tx.execute("SELECT 1 FROM data WHERE checksum = ? LIMIT 1", (checksum,)).fetchone() is not None


def read_content(tx: sqlite3.Connection, blobs: Path, version: Version) -> bytes:
    """The exact bytes of a version. Raises `SwampError` (`content_damaged`)."""
    content = tx.execute("SELECT content FROM data WHERE id = ?", (version.id,)).fetchone()[0]
    return read_blob(blobs, version.checksum) if content is None else bytes(content)


@value
class _Placed:
    """Content as its row holds it."""

    checksum: str
    size: int
    inline: bytes | None  #: None: it is a file


def _placed(content: bytes | Blob) -> _Placed:
    if isinstance(content, Blob):
        return _Placed(content.checksum, content.size, None)
    inline = content if len(content) <= INLINE_LIMIT else None
    return _Placed(hashlib.sha256(content).hexdigest(), len(content), inline)


def _newest(tx: sqlite3.Connection, model_id: str, name: str) -> int:
    row = tx.execute("SELECT max(version) FROM data WHERE model_id = ? AND name = ?", (model_id, name)).fetchone()
    return int(row[0] or 0)


def _version(row: tuple[object, ...]) -> Version:
    fields: list[Any] = list(row)  # in the order of _COLUMNS
    fields[4] = bool(fields[4])
    fields[11] = json.loads(fields[11])
    fields[14:] = [Origin(*fields[14:])]
    return Version(*fields)


def _tags_text(tags: Mapping[str, str]) -> str:
    return json.dumps(dict(tags), ensure_ascii=False, sort_keys=True, separators=(",", ":")) if tags else "{}"
