from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.data.store import Store
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import Token, mint
from tests.orchestrator.answering import Orchestrator, announce, answer

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CHANGED = ("POST", "/api/tokens/build-node/changed")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    (tmp_path / ".swamp.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return Repo(tmp_path)


@pytest.fixture
def store(repo: Repo) -> Iterator[Store]:
    opened = Store.open(repo.database, repo.blobs, create=True)
    with opened.write() as tx:
        token, _ = mint("build-node", "sandbox-vault", timedelta(days=36500), LONG_AGO, bytes(32))
        tokens.add(tx, token, LONG_AGO)
        tokens.bind(tx, "m1", bytes(32), "build-node", "build-node", LONG_AGO)
    yield opened
    opened.close()


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    started = Orchestrator()
    yield started
    started.close()


def stored(store: Store) -> Token:
    with store.read() as tx:
        return tokens.get(tx, "build-node")


def test_a_revoked_token_is_over_from_then_on(store, capsys):
    assert run(["worker", "token", "revoke", "build-node"]) == 0
    revoked_at = stored(store).revoked_at
    assert revoked_at is not None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "✓ Token build-node revoked."
    assert lines[1].startswith("Revoked at: 2")


def test_revoking_twice_changes_nothing_and_says_so(store, capsys):
    run(["worker", "token", "revoke", "build-node"])
    first = stored(store)
    capsys.readouterr()
    assert run(["worker", "token", "revoke", "build-node"]) == 0
    assert capsys.readouterr().out == "Token build-node was already revoked.\n"
    assert stored(store) == first


def test_json_shows_the_token_as_it_is_now(store, capsys):
    assert run(["worker", "token", "revoke", "build-node", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "revoked"
    assert document["alreadyRevoked"] is False
    assert [binding["machine"] for binding in document["bindings"]] == ["m1"]


def test_a_running_orchestrator_is_told_when_the_token_is_already_over(repo, store, orchestrator):
    announce(repo, orchestrator.url)
    seen = []

    def look(handler):
        seen.append(stored(store).revoked_at)
        answer({})(handler)

    orchestrator.answers[CHANGED] = look
    assert run(["worker", "token", "revoke", "build-node"]) == 0
    assert seen == [stored(store).revoked_at]
    assert seen[0] is not None


def test_an_orchestrator_that_does_not_confirm_is_an_error_and_the_token_is_revoked_all_the_same(
    repo, store, orchestrator, capsys
):
    announce(repo, orchestrator.url)
    orchestrator.answers[CHANGED] = answer({"error": "Redis does not answer", "code": "redis", "exitCode": 5}, 503)
    assert run(["worker", "token", "revoke", "build-node"]) == 5
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "token 'build-node' is revoked, but" in printed.err
    assert "Redis does not answer" in printed.err
    assert stored(store).revoked_at is not None


def test_repeating_a_revocation_tells_the_orchestrator_again(repo, store, orchestrator):
    run(["worker", "token", "revoke", "build-node"])
    announce(repo, orchestrator.url)
    orchestrator.answers[CHANGED] = answer({})
    assert run(["worker", "token", "revoke", "build-node"]) == 0
    assert (*CHANGED, {}) in orchestrator.asked


def test_an_unknown_token_is_not_found_and_the_nearest_named(store, capsys):
    assert run(["worker", "token", "revoke", "build-nod"]) == 3
    assert capsys.readouterr().err == (
        "Error: there is no token 'build-nod'; did you mean 'build-node'?\n"
        "  see which there are with: swamp worker token list\n"
    )


def test_in_a_repository_without_data_every_token_is_unknown_and_nothing_is_made(repo, capsys):
    assert run(["worker", "token", "revoke", "build-node"]) == 3
    assert "swamp worker token list" in capsys.readouterr().err
    assert not repo.state.exists()
