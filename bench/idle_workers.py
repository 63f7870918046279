"""Many workers in one process: `python -m bench.idle_workers <url> <token file> <directory> <count>`.

Each is a worker as `swamp worker connect` runs it, with an identity, a handshake, a Redis user, connections and
heartbeats of its own; only the process is shared.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from workers.identity import Identity
from workers.worker import Worker, WorkerOptions

BETWEEN = 0.02  #: seconds between two that join; a thousand handshakes at once are another measurement


def main(url: str, token_file: str, directory: str, count: str) -> None:
    threading.stack_size(256 * 1024)  # each worker has five threads, which wait
    token, _, secret = Path(token_file).read_text().strip().partition(".")
    options = WorkerOptions(url, lambda: (token, bytes.fromhex(secret)), slots=1, grace=1.0)
    for number in range(int(count)):
        identity = Identity.load_or_create(Path(directory) / str(number))
        worker = Worker(options, identity, Path(directory), {})
        threading.Thread(target=worker.run, daemon=True).start()
        time.sleep(BETWEEN)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
