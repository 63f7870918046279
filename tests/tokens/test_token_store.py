from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from swamp.data.store import Store
from swamp.errors import Invalid, NotAllowed, NotFound
from swamp.tokens import store as tokens
from swamp.tokens.token import Token, mint

NOW = datetime(2026, 6, 15, 10, 34, 58, 961000, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = bytes(32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "swamp.db", tmp_path / "blobs", create=True)
    yield opened
    opened.close()


def token(name: str = "build-node", now: datetime = NOW, max_enrollments: int | None = 1) -> Token:
    return mint(name, "sandbox-vault", HOUR, now, bytes(32), max_enrollments)[0]


def test_a_token_is_found_as_it_was_added(store):
    fleet = token("fleet", max_enrollments=None)
    with store.write() as tx:
        assert tokens.add(tx, token(), NOW) is False
        tokens.add(tx, fleet, NOW)
    with store.read() as tx:
        assert tokens.find(tx, "build-node") == token()
        assert tokens.tokens(tx) == [token(), fleet]
        assert tokens.find(tx, "other") is None


def test_no_column_holds_the_secret(store):
    added, text = mint("build-node", "v", HOUR, NOW, b"\xab" * 32)
    with store.write() as tx:
        tokens.add(tx, added, NOW)
        row = tx.execute("SELECT * FROM tokens").fetchone()
    assert text.split(".")[1] not in repr(row)


def test_the_name_of_a_live_token_is_refused_and_nothing_changes(store):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        tokens.bind(tx, "m1", KEY, "build-node", "build-node", NOW)
    later = NOW + timedelta(minutes=1)
    with pytest.raises(Invalid) as refused, store.write() as tx:
        tokens.add(tx, token(now=later), later)
    assert refused.value.code == "token_exists"
    assert "swamp worker token revoke build-node" in (refused.value.hint or "")
    with store.read() as tx:
        assert tokens.find(tx, "build-node") == token()
        assert [machine.id for machine in tokens.bindings(tx, "build-node")] == ["m1"]


@pytest.mark.parametrize("ended", ["revoked", "expired"])
def test_the_name_of_a_token_that_is_over_may_be_used_again_without_its_machines(store, ended):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        tokens.add(tx, token("other"), NOW)
        tokens.bind(tx, "m1", KEY, "build-node", "build-node", NOW)
        tokens.bind(tx, "m2", KEY, "other", "other", NOW)
        if ended == "revoked":
            tokens.revoke(tx, "build-node", NOW)
    again = NOW + (HOUR if ended == "expired" else timedelta(0))
    with store.write() as tx:
        assert tokens.add(tx, token(now=again), again) is True
    with store.read() as tx:
        assert tokens.find(tx, "build-node") == replace(token(now=again), key_generation=2)
        assert tokens.bindings(tx, "build-node") == []
        assert [machine.id for machine in tokens.bindings(tx, "other")] == ["m2"]


def test_of_two_who_add_one_name_at_once_only_one_succeeds(store):
    outcomes: list[str] = []
    together = threading.Barrier(4)

    def add() -> None:
        together.wait()
        try:
            with store.write() as tx:
                tokens.add(tx, token(), NOW)
            outcomes.append("added")
        except Invalid:
            outcomes.append("refused")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added", "refused", "refused", "refused"]


def test_a_token_is_revoked_once_and_keeps_the_first_time(store):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        assert tokens.revoke(tx, "build-node", NOW) is True
        assert tokens.revoke(tx, "build-node", NOW + HOUR) is False
        assert tokens.get(tx, "build-node").revoked_at == NOW


@pytest.mark.parametrize("passed", [timedelta(minutes=1), 2 * HOUR], ids=["live", "expired"])
def test_a_rotated_token_ends_later_and_keeps_its_machines(store, passed):
    now = NOW + passed
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        tokens.bind(tx, "m1", KEY, "build-node", "build-node", NOW)
        rotated = tokens.rotate(tx, "build-node", now + HOUR, now)
        assert rotated == replace(token(), expires_at=now + HOUR, rotated_at=now)
        assert [machine.id for machine in tokens.bindings(tx, "build-node")] == ["m1"]


def test_a_revoked_token_is_not_rotated(store):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        tokens.revoke(tx, "build-node", NOW)
    with pytest.raises(Invalid) as refused, store.write() as tx:
        tokens.rotate(tx, "build-node", NOW + HOUR, NOW)
    assert "swamp worker token create build-node" in (refused.value.hint or "")


def test_of_refused_machines_the_last_few_are_remembered(store):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        for n in range(tokens.MOST_REFUSED + 5):
            tokens.note_refused(tx, "build-node", f"m{n}", "already_bound", "h", "a", NOW + timedelta(seconds=n))
        remembered = tokens.refused_joins(tx, "build-node")
    assert len(remembered) == tokens.MOST_REFUSED
    assert remembered[0].machine == f"m{tokens.MOST_REFUSED + 4}"


def test_revoking_keeps_the_machines_on_record(store):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        tokens.bind(tx, "m1", KEY, "build-node", "build-node", NOW)
        tokens.revoke(tx, "build-node", NOW)
        assert [machine.id for machine in tokens.bindings(tx, "build-node")] == ["m1"]


def test_revoking_an_unknown_token_names_the_nearest_one(store):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
    with pytest.raises(NotFound) as missing, store.write() as tx:
        tokens.revoke(tx, "build-nod", NOW)
    assert "did you mean 'build-node'?" in missing.value.message


def test_a_bound_machine_is_found_by_its_id_and_by_its_token(store):
    with store.write() as tx:
        tokens.add(tx, token(), NOW)
        tokens.bind(tx, "m1", KEY, "build-node", "worker-1", NOW)
        found = tokens.machine(tx, "m1")
        assert found is not None
        assert (found.public_key, found.token, found.worker, found.bound_at) == (KEY, "build-node", "worker-1", NOW)
        assert tokens.bindings(tx, "build-node") == tokens.machines(tx) == [found]
        assert tokens.machine(tx, "m2") is None


def test_a_machine_that_moves_to_another_token_keeps_its_place_in_its_messages_but_not_its_password(store):
    with store.write() as tx:
        tokens.add(tx, token("old"), NOW)
        tokens.add(tx, token("new"), NOW)
        tokens.bind(tx, "m1", KEY, "old", "old", NOW)
        tokens.advance(tx, "m1", 7, 3)
        tokens.set_redis_password(tx, "m1", "ab" * 32)
        assert tokens.elsewhere(tx, "m1", "new") == token("old")
        assert tokens.elsewhere(tx, "m1", "old") is None
        tokens.bind(tx, "m1", KEY, "new", "new", NOW)
        moved = tokens.machine(tx, "m1")
        assert moved is not None
        assert (moved.token, moved.epoch, moved.sequence, moved.redis_password_hash) == ("new", 7, 3, None)
        assert tokens.bindings(tx, "old") == []
        assert tokens.elsewhere(tx, "m1", "new") is None


def test_a_machine_id_cannot_be_taken_over_with_another_key(store):
    with store.write() as tx:
        tokens.bind(tx, "m1", KEY, "build-node", "build-node", NOW)
    with pytest.raises(NotAllowed), store.write() as tx:
        tokens.bind(tx, "m1", b"\x01" * 32, "build-node", "build-node", NOW)
    with store.read() as tx:
        assert tokens.machines(tx)[0].public_key == KEY


def test_a_message_is_applied_once_and_never_after_a_later_one(store):
    with store.write() as tx:
        tokens.bind(tx, "m1", KEY, "build-node", "build-node", NOW)
        assert tokens.advance(tx, "m1", 1, 1)
        assert not tokens.advance(tx, "m1", 1, 1)
        assert tokens.advance(tx, "m1", 1, 5)
        assert not tokens.advance(tx, "m1", 1, 4)
        assert tokens.advance(tx, "m1", 2, 1)
        assert not tokens.advance(tx, "m1", 1, 6)
        assert not tokens.advance(tx, "unknown", 1, 1)


def test_what_a_machine_said_of_itself_is_kept(store):
    with store.write() as tx:
        tokens.bind(tx, "m1", KEY, "build-node", "build-node", NOW)
        tokens.note_sightings(
            tx,
            [tokens.Sighting("m1", NOW + HOUR, "linux/x86_64", 4), tokens.Sighting("unknown", NOW, "linux/x86_64", 1)],
        )
        found = tokens.machine(tx, "m1")
        assert found is not None
        assert (found.last_seen_at, found.platform, found.slots) == (NOW + HOUR, "linux/x86_64", 4)
        assert len(tokens.machines(tx)) == 1
