"""A process that writes: `python -m tests.data.writer <directory> <batches> <items> <bytes>`.

Each batch is one transaction of `items` new versions of the same data, each `bytes` long. After every commit it prints
how many versions have been acknowledged to it so far.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from swamp.data.store import Store
from swamp.data.versions import add_versions
from tests.data.samples import file


def main(directory: Path, batches: int, items: int, size: int) -> None:
    store = Store.open(directory / "swamp.db", directory / "blobs", create=True)
    for batch in range(batches):
        with store.write() as tx:
            add_versions(tx, store.blobs, [file(os.urandom(size)) for _ in range(items)])
        print((batch + 1) * items, flush=True)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
