"""A keeper for the steps of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swamp.models.kept import Kept
from tests.models.steps import SPAWNERS


@pytest.fixture
def keeper() -> Iterator[Kept]:
    """Every `Step` of the test is started by it."""
    kept = Kept()
    SPAWNERS.append(kept)
    yield kept
    SPAWNERS.pop()
    kept.close()


@pytest.fixture(params=["direct", "keeper"])
def spawner(request: pytest.FixtureRequest) -> None:
    """The test holds for either spawner."""
    if request.param == "keeper":
        request.getfixturevalue("keeper")
