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
from swamp.tokens import store as tokens
from swamp.tokens.token import Token
from swamp.vaults.catalog import create_vault, open_vault
from tests.orchestrator.answering import Orchestrator, announce, answer

CREATE = ["worker", "token", "create", "build-node", "--duration", "1h"]
CHANGED = ("POST", "/api/tokens/build-node/changed")


@pytest.fixture
def bare_repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    (tmp_path / ".swamp.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return Repo(tmp_path)


@pytest.fixture
def repo(bare_repo: Repo) -> Repo:
    create_vault(bare_repo, "local_encryption", "sandbox-vault", uuid4(), datetime.now(UTC))
    return bare_repo


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    started = Orchestrator()
    yield started
    started.close()


def stored(repo: Repo) -> list[Token]:
    if not repo.database.exists():
        return []
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.read() as tx:
        return tokens.tokens(tx)


def in_vault(repo: Repo, vault: str = "sandbox-vault") -> str:
    return open_vault(repo, vault).get("worker-token-build-node")


def end_token(repo: Repo) -> None:
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.write() as tx:
        tokens.bind(tx, "m1", bytes(32), "build-node", "build-node", datetime.now(UTC))
        tokens.revoke(tx, "build-node", datetime.now(UTC))


def test_the_block_of_the_tutorial_is_printed(repo, capsys):
    assert run(CREATE) == 0
    printed = capsys.readouterr()
    assert re.fullmatch(
        r"Token: build-node\n"
        r"Expires: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\n"
        r"Vault: sandbox-vault \(key worker-token-build-node\)\n"
        r"\n"
        r"  build-node\.[0-9a-f]{64}\n"
        r"\n"
        r"This token is shown once and will not be displayed again — store it now\.\n",
        printed.out,
    )
    assert printed.err == ""


def test_the_token_ends_after_its_duration(repo):
    before = datetime.now(UTC)
    run(CREATE)
    after = datetime.now(UTC)
    slack = timedelta(milliseconds=1)  # stored times have milliseconds
    assert before + timedelta(hours=1) - slack <= stored(repo)[0].expires_at <= after + timedelta(hours=1)


def test_the_secret_is_in_the_vault_and_in_no_file_in_clear(repo, capsys):
    run(CREATE)
    text = re.search(r"build-node\.[0-9a-f]{64}", capsys.readouterr().out)
    assert text is not None
    assert in_vault(repo) == text[0]
    secret = text[0].split(".")[1]
    for file in repo.root.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
            assert bytes.fromhex(secret) not in file.read_bytes(), file


def test_json_holds_the_token_and_what_list_shows(repo, capsys):
    assert run([*CREATE, "--json"]) == 0
    created = json.loads(capsys.readouterr().out)
    run(["worker", "token", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert created.pop("token") == in_vault(repo)
    assert listed == [created]
    assert from_iso(created["expiresAt"]) - from_iso(created["createdAt"]) == timedelta(hours=1)


def test_every_token_has_a_secret_of_its_own(repo):
    texts = []
    for _ in range(2):
        run(CREATE)
        texts.append(in_vault(repo))
        end_token(repo)
    assert texts[0] != texts[1]


def test_a_fleet_token_says_how_many_machines_may_join(repo, capsys):
    assert run([*CREATE, "--max-enrollments", "20"]) == 0
    assert "Max enrollments: 20\nVault: " in capsys.readouterr().out
    assert stored(repo)[0].max_enrollments == 20


def test_an_unlimited_fleet_token_is_possible(repo, capsys):
    assert run([*CREATE, "--max-enrollments", "unlimited"]) == 0
    assert "Max enrollments: unlimited\n" in capsys.readouterr().out
    assert stored(repo)[0].max_enrollments is None


def test_without_a_vault_nothing_is_made_and_the_command_to_type_is_named(bare_repo, capsys):
    assert run(CREATE) != 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "swamp vault create" in printed.err
    assert stored(bare_repo) == []


def test_with_several_vaults_one_has_to_be_named(repo, capsys):
    create_vault(repo, "local_encryption", "other", uuid4(), datetime.now(UTC))
    assert run(CREATE) != 0
    printed = capsys.readouterr()
    assert "--vault" in printed.err
    assert "sandbox-vault" in printed.err
    assert "other" in printed.err
    assert stored(repo) == []
    assert run([*CREATE, "--vault", "other"]) == 0
    assert "Vault: other (key worker-token-build-node)" in capsys.readouterr().out
    assert in_vault(repo, "other").startswith("build-node.")


def test_an_unknown_vault_is_not_found(repo):
    assert run([*CREATE, "--vault", "nowhere"]) == 3
    assert stored(repo) == []


def test_the_name_of_a_live_token_is_refused_and_its_secret_stays(repo, capsys):
    run(CREATE)
    token, secret = stored(repo), in_vault(repo)
    capsys.readouterr()
    assert run(CREATE) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "token 'build-node' already exists" in printed.err
    assert "swamp worker token revoke build-node" in printed.err
    assert (stored(repo), in_vault(repo)) == (token, secret)


def test_the_name_of_an_ended_token_may_be_used_again_with_a_new_secret_and_no_machines(repo, capsys):
    run(CREATE)
    secret = in_vault(repo)
    end_token(repo)
    assert run(CREATE) == 0
    assert in_vault(repo) != secret
    capsys.readouterr()
    run(["worker", "token", "list"])
    assert re.search(r"build-node  unused  \S+  -\n", capsys.readouterr().out)


def test_a_running_orchestrator_is_told_when_a_token_takes_the_place_of_another(repo, orchestrator):
    announce(repo, orchestrator.url)
    orchestrator.answers[CHANGED] = answer({})
    run(CREATE)
    assert orchestrator.asked == []
    end_token(repo)
    assert run(CREATE) == 0
    assert (*CHANGED, {}) in orchestrator.asked


def test_the_token_is_shown_even_if_the_orchestrator_cannot_be_told(repo, orchestrator, capsys):
    run(CREATE)
    end_token(repo)
    announce(repo, orchestrator.url)
    orchestrator.answers[CHANGED] = answer({"error": "Redis does not answer", "code": "redis", "exitCode": 5}, 503)
    capsys.readouterr()
    assert run(CREATE) == 0
    printed = capsys.readouterr()
    assert in_vault(repo) in printed.out
    assert "Redis does not answer" in printed.err


def test_a_vault_that_cannot_keep_the_secret_leaves_no_token(repo, capsys):
    open_vault(repo, "sandbox-vault").put("worker-token-build-node", "older")
    (secret,) = (repo.secrets / "sandbox-vault").glob("*.secret")
    secret.unlink()
    secret.mkdir()  # a file cannot take its place
    assert run(CREATE) == 1
    assert capsys.readouterr().out == ""
    assert stored(repo) == []


def test_a_secret_left_in_the_vault_by_a_crash_does_not_block_the_name(repo):
    open_vault(repo, "sandbox-vault").put("worker-token-build-node", "left by a crash")
    assert run(CREATE) == 0
    assert in_vault(repo).startswith("build-node.")


@pytest.mark.parametrize("name", ["Build", "a--b", "a.b", "../x", ""])
def test_a_bad_name_is_refused_before_anything_is_made(repo, capsys, name):
    assert run(["worker", "token", "create", name, "--duration", "1h"]) == 2
    assert "use lower-case letters and digits" in capsys.readouterr().err
    assert not repo.database.exists()


@pytest.mark.parametrize("duration", ["1", "0h", "-1h", "1 fortnight", "", "101y"])
def test_a_bad_duration_is_refused_with_examples(repo, capsys, duration):
    assert run(["worker", "token", "create", "build-node", "--duration", duration]) == 2
    assert "for example" in capsys.readouterr().err
    assert not repo.database.exists()


def test_a_missing_duration_is_a_usage_error_that_names_it(repo, capsys):
    assert run(["worker", "token", "create", "build-node"]) == 2
    assert "--duration" in capsys.readouterr().err


def if_missing(file: Path) -> list[str]:
    return [*CREATE, "--if-missing", "--output-file", str(file)]


def test_repeated_with_if_missing_it_makes_one_token_and_leaves_its_file_alone(repo, tmp_path, capsys):
    file = tmp_path / "token"
    assert run(if_missing(file)) == 0
    made, written = stored(repo), file.stat().st_ino
    assert file.stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    assert run(if_missing(file)) == 0
    assert stored(repo) == made
    assert file.stat().st_ino == written
    assert file.read_text() == in_vault(repo) + "\n"
    assert "there already, unused" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("old"), lambda file: file.chmod(0o644)])
def test_with_if_missing_a_lost_or_damaged_file_is_written_again(repo, tmp_path, damage):
    file = tmp_path / "token"
    assert run(if_missing(file)) == 0
    damage(file)
    assert run(if_missing(file)) == 0
    assert file.read_text() == in_vault(repo) + "\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_with_if_missing_a_revoked_token_stays_revoked_and_is_written_nowhere(repo, tmp_path, capsys):
    file = tmp_path / "token"
    assert run(CREATE) == 0
    end_token(repo)
    capsys.readouterr()
    assert run(if_missing(file)) == 0
    assert [token.revoked_at is not None for token in stored(repo)] == [True]
    assert not file.exists()
    assert "there already, revoked" in capsys.readouterr().out


def test_if_missing_wants_a_file_to_keep(repo, capsys):
    assert run([*CREATE, "--if-missing"]) == 2
    assert "--output-file" in capsys.readouterr().err
    assert stored(repo) == []
