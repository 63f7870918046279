from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swamp.data.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store in a directory of its own."""
    opened = Store.open(tmp_path / "data" / "swamp.db", tmp_path / "data" / "blobs", create=True)
    yield opened
    opened.close()
