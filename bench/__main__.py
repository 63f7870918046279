"""`make bench`: measure, and print a table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
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
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="a,c", help="only these rows")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions of each row (default: 3)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps per row, instead of each row's own number")
    parser.add_argument("--full", action="store_true", help="row g with 100,000 steps instead of 20,000")
    parser.add_argument(
        "--workers", type=int, default=500, metavar="N", help="idle workers of row f (default: 500), in j at most 100"
    )
    parser.add_argument(
        "--seconds", type=float, default=30, metavar="S", help="how long rows f and j look (default: 30)"
    )
    parser.add_argument("--stages", action="store_true", help="where the time of a step goes, by stage; nothing else")
    parser.add_argument("--no-peers", action="store_true", help="Swamp alone; makes no environments")
    parser.add_argument("--json", action="store_true", help="one JSON document, with every sample")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
