"""What a peer's driver does when it is asked: `fill <kind> <batch> <count>`, `collect <batch> <total>`, `one <count>`.

Prints one JSON document.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

PATIENCE = 600.0


def main(
    fill: Callable[[str, str, int], None],
    stored: Callable[[], int],
    results: Callable[[], list[object]],
    one: Callable[[], float],
) -> None:
    match sys.argv[1:]:
        case ["fill", kind, batch, count]:
            fill(kind, batch, int(count))
            answer: object = {}
        case ["collect", batch, total]:
            answer = collect(stored, results, batch, int(total))
        case ["one", count]:
            answer = [one() * 1000 for _ in range(int(count))]
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(answer))


def collect(stored: Callable[[], int], results: Callable[[], list[object]], batch: str, total: int) -> dict[str, float]:
    """Wait until `total` results are stored; of those of the batch, how many there are, and the first and the last."""
    print("waiting", flush=True)
    deadline = time.monotonic() + PATIENCE
    while stored() < total:
        if time.monotonic() > deadline:
            raise SystemExit(f"{stored()} of {total} results after {PATIENCE:g} s")
        time.sleep(0.02)
    print("stored", flush=True)
    times = [
        float(result["answeredAt"]) for result in results() if isinstance(result, dict) and result["message"] == batch
    ]
    return {"count": len(times), "first": min(times), "last": max(times)}
