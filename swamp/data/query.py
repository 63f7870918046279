"""Queries over data: SQLite narrows the rows down, CEL decides, and content is read only where it is looked at."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from swamp.data.blobs import read_blob
from swamp.data.cel import FIELDS, Expression, Undecided, compile_expression, compile_predicate
from swamp.data.passage import UNSAFE
from swamp.data.pushdown import split
from swamp.data.versions import LATEST_ROWS
from swamp.errors import SwampError

DEEPEST = 100  #: levels of nesting in attributes; CEL works on them recursively, in C++, where too deep is a crash

_COLUMNS = {
    "id": "d.id",
    "name": "d.name",
    "version": "d.version",
    "isLatest": f"d.rowid IN ({LATEST_ROWS})",
    "createdAt": "d.created_at",
    "modelName": "d.model_name",
    "modelType": "d.model_type",
    "specName": "d.spec_name",
    "dataType": "d.data_type",
    "contentType": "d.content_type",
    "size": "d.size",
    "checksum": "d.checksum",
    "workflowName": "d.workflow_name",
    "runId": "d.run_id",
    "jobName": "d.job_name",
    "stepName": "d.step_name",
    "target": "d.target",
    "machine": "d.machine",
}


@dataclass(frozen=True)
class Query:
    """Which data is meant, and what of it is wanted."""

    predicate: Expression
    select: Expression | None = None  #: None: the whole record

    @property
    def sees_all_versions(self) -> bool:
        """Only a predicate that speaks of versions sees others than the newest."""
        return not self.predicate.fields.isdisjoint(("version", "isLatest"))


@dataclass(frozen=True)
class Match:
    """One row that matches."""

    value: object  #: what `select` gave, or the record as a dictionary
    decided: bool = True  #: False: `select` has no value for this row


def parse_query(predicate: str, select: str | None = None) -> Query:
    """Check a query as a person typed it. Raises `Invalid`."""
    return Query(
        compile_predicate(predicate),
        compile_expression(select, "selection") if select is not None else None,
    )


def search(
    tx: sqlite3.Connection,
    blobs: Path,
    query: Query,
    *,
    fields: Collection[str] = tuple(FIELDS),
    unreadable: Callable[[SwampError], None],
) -> Iterator[Match]:
    """The matches, newest first, one after the other as they are found.

    `fields` are those wanted of whole records. A row whose content is needed but damaged is told to `unreadable` and
    left out of the result.
    """
    statement, values, undecided = _statement(query, fields)
    wanted = query.select.fields if query.select is not None else tuple(field for field in FIELDS if field in fields)
    cursor = tx.execute(statement, values)
    names = [column[0] for column in cursor.description]
    for row_values in cursor:
        row = _Row(dict(zip(names, row_values, strict=True)), blobs)
        try:
            if undecided is None or _holds(undecided, row):
                yield _match(query.select, wanted, row)
        except SwampError as error:
            unreadable(error)


def _statement(query: Query, fields: Collection[str]) -> tuple[str, list[str | int], Expression | None]:
    """The SQL, the values of its question marks, and the predicate if CEL must decide on the rows that it gives."""
    # The row ids are settled first, from indexes alone, and rows are then fetched in the order of their ids: sorting
    # them would carry all their content through the sorter. `+` keeps SQLite from using the column's index instead.
    columns = _COLUMNS if query.sees_all_versions else {field: f"+{column}" for field, column in _COLUMNS.items()}
    parts = split(query.predicate.tree, columns)
    where = " AND ".join(f"({condition.sql})" for condition in parts.conditions)
    if not query.sees_all_versions:
        where = f"{_COLUMNS['isLatest']}{' AND ' if where else ''}{where}"
    elif where:
        where = f"d.rowid IN (SELECT d.rowid FROM data AS d WHERE {where})"  # noqa: S608 – values are parameters
    undecided = None if parts.complete else query.predicate
    needed = set(query.select.fields if query.select is not None else fields)
    needed.update(undecided.fields if undecided is not None else ())
    statement = f"SELECT {', '.join(_selected(needed))} FROM data AS d WHERE {where or 1} ORDER BY d.rowid DESC"  # noqa: S608
    return statement, [value for condition in parts.conditions for value in condition.values], undecided


def _holds(predicate: Expression, row: _Row) -> bool:
    try:
        return predicate.evaluate(row.take(predicate.fields), safe=row.safe) is True
    except Undecided:
        return False


def _match(select: Expression | None, wanted: Collection[str], row: _Row) -> Match:
    if select is None:
        return Match(row.take(wanted))
    try:
        return Match(select.evaluate(row.take(wanted), safe=row.safe))
    except Undecided:
        return Match(None, decided=False)


def _selected(fields: Collection[str]) -> list[str]:
    """The columns to ask for; the raw ones, which `_Row` makes fields of, have names with an underscore."""
    columns = ["d.checksum AS _checksum"]
    columns += [f"{_COLUMNS[field]} AS {field}" for field in fields if field in _COLUMNS]
    if "tags" in fields:
        columns.append("d.tags AS _tags")
    if not {"attributes", "content"}.isdisjoint(fields):
        columns += ["d.content AS _content", "d.content_type AS _content_type"]
    return columns


class _Row:
    """One row; the fields that cost something are made when they are first asked for."""

    def __init__(self, columns: dict[str, object], blobs: Path) -> None:
        self._columns = columns
        self._blobs = blobs
        self._fields: dict[str, object] = {}
        #: Whether everything taken so far can be given to CEL as it is.
        self.safe = not any(isinstance(value, str) and UNSAFE.search(value) for value in columns.values())

    def take(self, fields: Collection[str]) -> dict[str, object]:
        """These fields. Raises `SwampError` when content is needed and damaged."""
        return {field: self._field(field) for field in fields}

    def _field(self, name: str) -> object:
        if name not in self._fields:
            self._fields[name] = self._make(name)
        return self._fields[name]

    def _make(self, name: str) -> object:
        match name:
            case "isLatest":
                return bool(self._columns[name])
            case "tags":
                return json.loads(str(self._columns["_tags"]))
            case "content":
                return self._text()
            case "attributes":
                return self._attributes()
            case _:
                return self._columns[name]

    def _text(self) -> str:
        content = self._columns["_content"]
        if content is None:
            content = read_blob(self._blobs, str(self._columns["_checksum"]))
        text = content.decode(errors="replace") if isinstance(content, bytes) else str(content)
        self.safe = self.safe and UNSAFE.search(text) is None
        return text

    def _attributes(self) -> object:
        """What JSON content says; an empty map for content that is not JSON."""
        kind = str(self._columns["_content_type"]).partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            return {}
        text = str(self._field("content"))
        try:
            attributes = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return attributes if text.count("{") + text.count("[") <= DEEPEST or _is_bearable(attributes) else {}


def _is_bearable(value: object) -> bool:
    """Whether it is nested at most `DEEPEST` levels deep."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return True
    return False
