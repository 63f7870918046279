"""`make bench`: measure, and print a table."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from bench.figures import Measured, Row, Samples, document, table
from bench.machine import describe
from bench.rows.fan_out import memory_row, probe_row, shell_row
from bench.rows.idle import idle_row
from bench.rows.latency import command_row, latency_row
from bench.rows.length import length_row
from bench.rows.round_trips import round_trip_row
from bench.rows.tunnel import tunnel_idle_row, tunnel_row
from bench.running import BenchFailed
from bench.stages import stage_tables

LETTERS = tuple("abcdefghij")


def main() -> int:
    """Exit code: 0 when all that was asked for was measured."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    machine = describe(datetime.now(UTC))
    if not options.json:
        print("\n".join(f"{name}: {text}" for name, text in machine.items()), end="\n\n", flush=True)
    if options.stages:
        print(stage_tables(options.steps or 5_000))
        return 0
    documents: list[dict[str, object]] = []
    failed = False
    for row in _rows(options):
        try:
            everybody = _measure(row, options.repeat)
        except BenchFailed as failure:
            print(f"{row.letter}. {row.title}: not measured: {failure}\n", file=sys.stderr, flush=True)
            documents.append({"row": row.letter, "title": row.title, "notMeasured": str(failure)})
            failed = True
            continue
        documents.append(document(row, everybody))
        if not options.json:
            print(table(row, everybody), end="\n\n", flush=True)
    if options.json:
        print(json.dumps({"machine": machine, "repetitions": options.repeat, "rows": documents}, indent=2))
    return int(failed)


def _measure(row: Row, repeat: int) -> list[Samples]:
    """A B A B: what changes on the machine meanwhile changes for everybody."""
    measured: list[list[Measured]] = [[] for _ in row.contenders]
    for repetition in range(repeat):
        for samples, contender in zip(measured, row.contenders, strict=True):
            _say(f"{row.letter} {repetition + 1}/{repeat} {contender.name} ")
            samples.append(contender.measure())
    _say("")
    return [Samples(contender.name, samples) for contender, samples in zip(row.contenders, measured, strict=True)]


def _say(what: str) -> None:
    """What is being measured, for who watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def _rows(options: argparse.Namespace) -> list[Row]:
    peers = not options.no_peers
    rows = [
        probe_row(options.steps or 10_000, peers=peers),
        shell_row(options.steps or 1_000, peers=peers),
        latency_row(options.steps or 200, peers=peers),
        command_row(min(options.steps or 10, 10)),
        round_trip_row(options.steps or 10_000, peers=peers),
        idle_row(options.workers, options.seconds),
        length_row(options.steps or (100_000 if options.full else 20_000)),
        memory_row(options.steps or 10_000, peers=peers),
        tunnel_row(options.steps or 10_000),
        tunnel_idle_row(min(options.workers, 100), options.seconds),
    ]
    return [row for row in rows if not options.only or row.letter in options.only]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='make bench BENCH_ARGS="…"', description="Measure Swamp next to RQ and Huey.", allow_abbrev=False
    )
    parser.add_argument("--only", type=_letters, metavar="a,c", help="only these rows")
    parser.add_argument(
        "--repeat", type=_at_least(1), default=3, metavar="N", help="repetitions of each row (default: 3)"
    )
    parser.add_argument(
        "--steps", type=_at_least(2), metavar="N", help="steps per row, instead of each row's own number"
    )
    parser.add_argument("--full", action="store_true", help="row g with 100,000 steps instead of 20,000")
    parser.add_argument(
        "--workers",
        type=_at_least(1),
        default=500,
        metavar="N",
        help="idle workers of row f (default: 500), in j at most 100",
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=30, metavar="S", help="how long rows f and j look (default: 30)"
    )
    parser.add_argument("--stages", action="store_true", help="where the time of a step goes, by stage; nothing else")
    parser.add_argument("--no-peers", action="store_true", help="Swamp alone; makes no environments")
    parser.add_argument("--json", action="store_true", help="one JSON document, with every sample")
    options = parser.parse_args()
    if options.stages and options.json:
        parser.error("--stages prints tables only, not --json")
    return options


def _letters(text: str) -> list[str]:
    letters = text.split(",")
    if unknown := [letter for letter in letters if letter not in LETTERS]:
        raise argparse.ArgumentTypeError(f"there is no row '{unknown[0]}'; rows: {', '.join(LETTERS)}")
    return letters


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} on")
        return int(text)

    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
