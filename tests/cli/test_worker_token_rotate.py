from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from swamp.cli.main import run
from swamp.clock import from_iso
from swamp.data.store import Store
from swamp.repo import Repo
from swamp.tokens import secrets
from swamp.tokens import store as tokens
from swamp.tokens.token import Machine, Token
from swamp.vaults.catalog import create_vault, open_vault
from tests.orchestrator.answering import Orchestrator, announce, answer

CREATE = ["worker", "token", "create", "build-node", "--duration", "1h"]
ROTATE = ["worker", "token", "rotate", "build-node"]
CHANGED = ("POST", "/api/tokens/build-node/changed")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Repo:
    """With a token to which a machine is bound."""
    (tmp_path / ".swamp.yaml").touch()
    monkeypatch.chdir(tmp_path)
    repo = Repo(tmp_path)
    create_vault(repo, "local_encryption", "sandbox-vault", uuid4(), datetime.now(UTC))
    assert run(CREATE) == 0
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.write() as tx:
        tokens.bind(tx, "m1", bytes(32), "build-node", "build-node", datetime.now(UTC))
    capsys.readouterr()
    return repo


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    started = Orchestrator()
    yield started
    started.close()


def stored(repo: Repo) -> tuple[Token, list[Machine]]:
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.read() as tx:
        return tokens.get(tx, "build-node"), tokens.bindings(tx, "build-node")


def in_vault(repo: Repo, key: str = "worker-token-build-node") -> str:
    return open_vault(repo, "sandbox-vault").get(key)


def test_the_token_gets_another_secret_and_keeps_its_machines(repo, capsys):
    old = in_vault(repo)
    assert run(ROTATE) == 0
    printed = capsys.readouterr()
    shown = re.search(r"build-node\.[0-9a-f]{64}", printed.out)
    assert shown is not None
    assert in_vault(repo) == shown[0] != old
    assert printed.out.startswith("✓ Token build-node rotated.\nExpires: ")
    assert "Machines that stay: 1\n" in printed.out
    assert [machine.id for machine in stored(repo)[1]] == ["m1"]


@pytest.mark.parametrize(("more", "expected"), [([], timedelta(hours=1)), (["--duration", "7d"], timedelta(days=7))])
def test_its_time_begins_anew(repo, more, expected):
    before = datetime.now(UTC)
    assert run([*ROTATE, *more]) == 0
    slack = timedelta(milliseconds=2)
    assert before + expected - slack <= stored(repo)[0].expires_at <= datetime.now(UTC) + expected + slack


def test_without_a_duration_it_lasts_as_long_as_the_last_time(repo):
    run([*ROTATE, "--duration", "2h"])
    run(ROTATE)
    token = stored(repo)[0]
    assert token.rotated_at is not None
    assert token.expires_at - token.rotated_at == timedelta(hours=2)


def test_the_secrets_that_it_had_are_kept_the_newest_few(repo):
    had = [in_vault(repo)]
    for _ in range(secrets.MOST_SUPERSEDED + 2):
        run(ROTATE)
        had.insert(0, in_vault(repo))
    token = stored(repo)[0]
    kept = in_vault(repo, "worker-token-build-node.superseded").splitlines()
    assert kept == had[1 : secrets.MOST_SUPERSEDED + 1]
    known = secrets.known(open_vault(repo, "sandbox-vault"), token)
    assert [f"build-node.{secret.hex()}" for secret in known] == [had[0], *kept]


def test_the_secret_of_a_token_that_is_made_anew_is_kept_too(repo):
    old = in_vault(repo)
    assert run(["worker", "token", "revoke", "build-node"]) == 0
    assert run(CREATE) == 0
    assert in_vault(repo, "worker-token-build-node.superseded") == old


def test_json_holds_the_token_and_what_list_shows(repo, capsys):
    assert run([*ROTATE, "--json"]) == 0
    rotated = json.loads(capsys.readouterr().out)
    run(["worker", "token", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert rotated.pop("token") == in_vault(repo)
    assert listed == [rotated]
    assert from_iso(rotated["rotatedAt"]) > from_iso(rotated["createdAt"])


@pytest.mark.parametrize("command", [ROTATE, [*CREATE[:3], "other", *CREATE[4:]]], ids=["rotate", "create"])
def test_the_token_can_be_written_into_a_file_for_its_worker_alone(repo, capsys, command, tmp_path):
    file = tmp_path / "token.txt"
    file.write_text("older, and longer than what comes " * 10)
    file.chmod(0o644)
    assert run([*command, "--output-file", file]) == 0
    printed = capsys.readouterr()
    assert file.read_text() == in_vault(repo, f"worker-token-{command[3]}") + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"Written to: {file}\n" in printed.out
    assert not re.search(r"[0-9a-f]{64}", printed.out + printed.err)
    if command is ROTATE:
        run([*command, "--output-file", file, "--json"])
        answered = json.loads(capsys.readouterr().out)
        assert answered["tokenFile"] == str(file)
        assert "token" not in answered


@pytest.mark.parametrize("command", [ROTATE, [*CREATE[:3], "other", *CREATE[4:]]], ids=["rotate", "create"])
def test_a_file_that_cannot_be_written_leaves_the_token_as_it_was(repo, capsys, command, tmp_path):
    before = stored(repo)
    assert run([*command, "--output-file", tmp_path / "nowhere" / "token.txt"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cannot be written to" in printed.err
    assert "a directory that exists" in printed.err
    assert stored(repo) == before
    run(["worker", "token", "list", "--json"])
    assert [token["name"] for token in json.loads(capsys.readouterr().out)] == ["build-node"]


def test_a_revoked_token_stays_revoked(repo, capsys):
    run(["worker", "token", "revoke", "build-node"])
    secret = in_vault(repo)
    assert run(ROTATE) == 1
    assert "swamp worker token create build-node" in capsys.readouterr().err
    assert in_vault(repo) == secret


def test_an_unknown_token_is_not_found(repo, capsys):
    assert run(["worker", "token", "rotate", "build-nod"]) == 3
    assert "did you mean 'build-node'?" in capsys.readouterr().err


def test_in_a_repository_without_a_token_it_is_not_found_either(tmp_path, monkeypatch):
    (tmp_path / ".swamp.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert run(ROTATE) == 3
    assert not Repo(tmp_path).database.exists()


def test_a_running_orchestrator_is_told(repo, orchestrator):
    announce(repo, orchestrator.url)
    orchestrator.answers[CHANGED] = answer({})
    assert run(ROTATE) == 0
    assert (*CHANGED, {}) in orchestrator.asked


def test_the_token_is_shown_even_if_the_orchestrator_cannot_be_told(repo, orchestrator, capsys):
    announce(repo, orchestrator.url)
    orchestrator.answers[CHANGED] = answer({"error": "Redis does not answer", "code": "redis", "exitCode": 5}, 503)
    assert run(ROTATE) == 0
    printed = capsys.readouterr()
    assert in_vault(repo) in printed.out
    assert "Redis does not answer" in printed.err


def test_a_token_that_has_more_time_left_than_said_stays_as_it_is(repo, tmp_path, capsys):
    before, text = stored(repo), in_vault(repo)
    file = tmp_path / "token"
    assert run([*ROTATE, "--if-expires-within", "30m", "--output-file", str(file)]) == 0
    assert stored(repo) == before
    assert in_vault(repo) == text
    assert file.read_text() == text + "\n"
    assert text not in capsys.readouterr().out


def test_a_token_that_has_less_time_left_than_said_gets_a_new_secret_in_the_same_file(repo, tmp_path):
    (before, machines), text = stored(repo), in_vault(repo)
    file = tmp_path / "token"
    file.write_text(text + "\n")
    assert run([*ROTATE, "--if-expires-within", "2h", "--duration", "90d", "--output-file", str(file)]) == 0
    after, stayed = stored(repo)
    assert after.expires_at - before.expires_at > timedelta(days=89)
    assert stayed == machines
    assert in_vault(repo) != text
    assert file.read_text() == in_vault(repo) + "\n"


def test_a_token_that_has_expired_is_extended_too(repo):
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.write() as tx:
        tx.execute("UPDATE tokens SET expires_at = created_at")
    assert run([*ROTATE, "--if-expires-within", "1s", "--duration", "1h"]) == 0
    assert stored(repo)[0].expires_at > datetime.now(UTC)
