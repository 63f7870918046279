"""`swamp data query`: find stored data."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.data.passage import jsonable
from swamp.data.query import Match, Query, parse_query, search
from swamp.data.store import Store
from swamp.errors import SwampError

SHOWN = ("name", "version", "modelName", "specName", "createdAt", "size")  #: the fields of the table


@click.command(
    "query",
    epilog=examples(
        "swamp data query 'modelName == \"remote-echo\" && specName == \"result\"' --select 'attributes.stdout'",
        "swamp data query 'attributes.exitCode != 0 && version > 0' --limit 10",
        "swamp data query 'true' --json",
    ),
)
@click.argument("predicate")
@click.option("--select", metavar="CEL", help="What to print of each match (default: a table).")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Print at most so many, the newest.")
@swamp_options
def command(ctx: Context, predicate: str, select: str | None, limit: int | None) -> None:
    """Find the data for which PREDICATE, a CEL expression, is true; newest first.

    Only the newest version of each name is looked at, unless PREDICATE speaks of version or isLatest. Data that lacks
    an attribute which PREDICATE asks for does not match.
    """
    query = parse_query(predicate, select)
    if not ctx.repo.database.is_file():
        _show(ctx, query, limit, iter(()))
        return
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store, store.read() as tx:
        _show(ctx, query, limit, _search(ctx, tx, store.blobs, query))


def _search(ctx: Context, tx: sqlite3.Connection, blobs: Path, query: Query) -> Iterator[Match]:
    def unreadable(error: SwampError) -> None:
        ctx.say(f"Left out: {error.message}")

    if ctx.json:
        return search(tx, blobs, query, unreadable=unreadable)
    return search(tx, blobs, query, fields=SHOWN, unreadable=unreadable)


def _show(ctx: Context, query: Query, limit: int | None, matches: Iterator[Match]) -> None:
    shown = islice(matches, limit)
    if ctx.json:
        results = [_document(match.value) for match in shown]
        limited = next(matches, None) is not None
        ctx.document(
            {"predicate": query.predicate.source, "results": results, "total": len(results), "limited": limited}
        )
        return
    if query.select is not None:
        _selected(ctx, query.select.source, shown)
    else:
        _table(ctx, shown)
    if next(matches, None) is not None:
        ctx.say(f"Only the newest {limit} are shown; --limit decides.")


def _selected(ctx: Context, select: str, matches: Iterator[Match]) -> None:
    found = shown = 0
    for match in matches:
        found += 1
        if match.decided:
            shown += 1
            ctx.out(_line(match.value))
    if not found:
        ctx.say("No data matches.")
    elif not shown:  # most often an attribute that is spelt otherwise
        ctx.say(f"Data matches ({found}), but none of it has a value for {select}; --json shows what there is.")


def _table(ctx: Context, matches: Iterator[Match]) -> None:
    records = [match.value for match in matches]
    if not records:
        ctx.say("No data matches.")
        return
    rows = [[str(record[field]) for field in SHOWN] for record in records if isinstance(record, dict)]
    ctx.table(("NAME", "VERSION", "MODEL", "SPEC", "CREATED", "SIZE"), rows)


def _document(value: object) -> object:
    if isinstance(value, dict):
        return {name: jsonable(inner) for name, inner in value.items()}
    return jsonable(value)


def _line(value: object) -> str:
    """Text as it is, everything else as JSON on one line."""
    plain = jsonable(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
