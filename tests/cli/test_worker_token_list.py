from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.data.store import Store
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import Token, mint

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR = datetime(2096, 6, 15, 11, 34, 58, 961000, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    (tmp_path / ".swamp.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return Repo(tmp_path)


@pytest.fixture
def store(repo: Repo):
    opened = Store.open(repo.database, repo.blobs, create=True)
    yield opened
    opened.close()


def token(name: str, *, expires_at: datetime = FAR, max_enrollments: int | None = 1) -> Token:
    return mint(name, "sandbox-vault", expires_at - LONG_AGO, LONG_AGO, bytes(32), max_enrollments)[0]


def test_an_unused_token_is_listed_as_in_the_tutorial(store, capsys):
    with store.write() as tx:
        tokens.add(tx, token("build-node"), LONG_AGO)
    assert run(["worker", "token", "list"]) == 0
    assert capsys.readouterr().out == (
        "NAME        STATE   EXPIRES                   BOUND MACHINE\nbuild-node  unused  2096-06-15T11:34:58.961Z  -\n"
    )


def test_every_state_is_told_and_the_machine_named(store, capsys):
    with store.write() as tx:
        for name in ("in-use", "revoked", "unused"):
            tokens.add(tx, token(name), LONG_AGO)
        tokens.add(tx, token("expired", expires_at=LONG_AGO + DAY), LONG_AGO)
        tokens.bind(tx, "3f2a9c4e1b7d5a60c8e1", bytes(32), "in-use", "in-use", LONG_AGO)
        tokens.revoke(tx, "revoked", LONG_AGO)
    assert run(["worker", "token", "list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(name, state, machine) for name, state, _, machine in rows] == [
        ("expired", "expired", "-"),
        ("in-use", "bound", "3f2a9c4e1b7d5a60c8e1"),
        ("revoked", "revoked", "-"),
        ("unused", "unused", "-"),
    ]


@pytest.mark.parametrize(("allowed", "shown"), [(5, "3/5"), (None, "3/unlimited")])
def test_a_fleet_is_shown_by_how_many_of_how_many_machines_are_bound(store, capsys, allowed, shown):
    with store.write() as tx:
        tokens.add(tx, token("fleet", max_enrollments=allowed), LONG_AGO)
        for n in range(3):
            tokens.bind(tx, f"m{n}", bytes(32), "fleet", f"fleet-m{n}", LONG_AGO + n * DAY)
    run(["worker", "token", "list"])
    assert capsys.readouterr().out.splitlines()[1].endswith(f"  {shown}")


def test_who_was_refused_is_shown_to_the_owner(store, capsys):
    with store.write() as tx:
        tokens.add(tx, token("build-node"), LONG_AGO)
        for at in (LONG_AGO, LONG_AGO + DAY):
            tokens.note_refused(tx, "build-node", "m2", "already_bound", "their-host", "192.0.2.7", at)
    run(["worker", "token", "list"])
    assert capsys.readouterr().err == (
        "Refused: machine m2 with token build-node (already_bound, 2 times, last at 2020-01-02T00:00:00.000Z"
        " from 192.0.2.7)\n"
    )
    run(["worker", "token", "list", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["refused"] == [
        {
            "machine": "m2",
            "code": "already_bound",
            "lastAt": "2020-01-02T00:00:00.000Z",
            "times": 2,
            "host": "their-host",
            "address": "192.0.2.7",
        }
    ]


def test_json_has_everything_but_the_secret(store, capsys):
    with store.write() as tx:
        tokens.add(tx, token("build-node"), LONG_AGO)
        tokens.bind(tx, "m1", bytes(32), "build-node", "build-node", LONG_AGO)
    assert run(["worker", "token", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "build-node",
            "state": "bound",
            "createdAt": "2020-01-01T00:00:00.000Z",
            "expiresAt": "2096-06-15T11:34:58.961Z",
            "revokedAt": None,
            "rotatedAt": None,
            "maxEnrollments": 1,
            "bindings": [
                {
                    "machine": "m1",
                    "worker": "build-node",
                    "boundAt": "2020-01-01T00:00:00.000Z",
                    "revokedAt": None,
                    "deliversUntil": None,
                }
            ],
            "refused": [],
            "vault": "sandbox-vault",
            "vaultKey": "worker-token-build-node",
        }
    ]


def test_without_tokens_stdout_is_empty_and_stderr_says_how_to_mint_one(repo, capsys):
    assert run(["worker", "token", "list"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "swamp worker token create" in printed.err
    assert run(["worker", "token", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert not repo.state.exists()
