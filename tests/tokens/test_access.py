"""Client tokens: what they are, and what the database keeps of them."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from swamp.data.store import Store
from swamp.errors import Invalid, NotFound
from swamp.tokens import access

NOW = datetime(2026, 6, 15, 11, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path):
    with closing(Store.open(tmp_path / "swamp.db", tmp_path / "blobs", create=True)) as opened:
        yield opened


def minted(name: str = "laptop", secret: bytes = b"s" * 32) -> tuple[access.AccessToken, str]:
    return access.mint(name, HOUR, NOW, secret)


def test_a_token_is_read_back_from_its_text_and_knows_its_secret_alone():
    token, text = minted()
    name, secret = access.parse(f" {text}\n")
    assert name == "laptop"
    assert access.knows(token, secret)
    assert not access.knows(token, b"t" * 32)


def test_the_database_holds_no_secret(store: Store, tmp_path: Path):
    token, text = minted()
    with store.write() as tx:
        access.add(tx, token, NOW)
        assert access.find(tx, "laptop") == token
    secret = text.rpartition(".")[2]
    for file in tmp_path.glob("swamp.db*"):
        content = file.read_bytes()
        assert secret.encode() not in content
        assert bytes.fromhex(secret) not in content


@pytest.mark.parametrize(
    "text",
    ["", "laptop." + "0" * 64, "swamp-client.laptop." + "0" * 63, "swamp-client.." + "0" * 64,
     "swamp-client.laptop." + "0" * 64 + "é", "swamp-client." + "a" * 99 + "." + "0" * 64],
)  # fmt: skip
def test_other_text_is_refused_without_repeating_it(text: str):
    with pytest.raises(Invalid) as refused:
        access.parse(text)
    assert "0000" not in refused.value.message


def test_a_live_name_is_taken_and_a_dead_one_is_free(store: Store):
    with store.write() as tx:
        access.add(tx, minted()[0], NOW)
        with pytest.raises(Invalid, match="already exists"):
            access.add(tx, minted(secret=b"t" * 32)[0], NOW)
        assert access.revoke(tx, "laptop", NOW)[1]
        assert not access.revoke(tx, "laptop", NOW)[1]
        access.add(tx, minted(secret=b"t" * 32)[0], NOW)
        again = access.find(tx, "laptop")
        assert again is not None
        assert access.state(again, NOW) == "valid"
        assert access.knows(again, b"t" * 32)
        assert access.state(again, NOW + HOUR) == "expired"
        with pytest.raises(NotFound, match="did you mean 'laptop'"):
            access.revoke(tx, "lptop", NOW)
