"""What `swamp worker connect` makes of its options."""

from __future__ import annotations

import pytest

from swamp.cli.worker.connect import _grace


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("0.5", 0.5), ("45", 45.0), ("90s", 90.0), ("1h", 3600.0)])
def test_a_grace_time_is_a_duration_or_seconds(text: str, seconds: float) -> None:
    assert _grace(text) == seconds
