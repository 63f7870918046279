"""Which names an orchestrator answers to."""

from __future__ import annotations

import pytest

from swamp.orchestrator.gate import names_us

OURS = frozenset({"swamp.example", "*.internal.example"})


@pytest.mark.parametrize(
    "host",
    [
        "localhost:9090", "LOCALHOST", "127.0.0.1:9090", "[::1]:9090", "192.0.2.7:9090", "swamp.example:9090",
        "Swamp.Example.", "a.internal.example",
    ],
)  # fmt: skip
def test_addresses_and_its_own_names_are_taken(host: str):
    assert names_us(host, OURS)


@pytest.mark.parametrize(
    "host",
    [
        "", ":9090", "evil.example", "swamp.example.evil.example", "internal.example", "a.b.internal.example",
        "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[::1", "127.0.0.1.nip.io:9090",
    ],
)  # fmt: skip
def test_any_other_name_is_not(host: str):
    assert not names_us(host, OURS)
