from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.data.store import Store
from swamp.orchestrator.client import WorkerDocument
from swamp.repo import Repo
from swamp.tokens import store as tokens
from tests.orchestrator.answering import Orchestrator, announce, answer

NOW = datetime(2026, 6, 15, 10, 34, 58, 961000, tzinfo=UTC)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    (tmp_path / ".swamp.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return Repo(tmp_path)


@pytest.fixture
def repo_with_machines(repo: Repo) -> Repo:
    with closing(Store.open(repo.database, repo.blobs, create=True)) as store, store.write() as tx:
        tokens.bind(tx, "m1", bytes(32), "build-node", "build-node", NOW)
        tokens.bind(tx, "m2", bytes(32), "fleet", "fleet-0a1b2c3d", NOW)
        tokens.note_sightings(tx, [tokens.Sighting("m1", NOW, "linux/x86_64", 4)])
    return repo


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    started = Orchestrator()
    yield started
    started.close()


def test_without_an_orchestrator_every_worker_is_disconnected(repo_with_machines, capsys):
    assert run(["worker", "list"]) == 0
    assert capsys.readouterr().out == (
        "NAME            STATUS        SLOTS  PLATFORM      LAST SEEN\n"
        "build-node      disconnected  0/4    linux/x86_64  2026-06-15T10:34:58.961Z\n"
        "fleet-0a1b2c3d  disconnected  0/0    -             -\n"
    )


def test_json_without_an_orchestrator_has_the_form_that_the_orchestrator_gives(repo_with_machines, capsys):
    assert run(["worker", "list", "--json"]) == 0
    workers = json.loads(capsys.readouterr().out)
    assert [worker["name"] for worker in workers] == ["build-node", "fleet-0a1b2c3d"]
    assert all(set(worker) == set(WorkerDocument.__annotations__) for worker in workers)


def test_a_running_orchestrator_is_asked(repo_with_machines, orchestrator, capsys):
    announce(repo_with_machines, orchestrator.url)
    worker = WorkerDocument(
        name="build-node",
        target="build-node",
        machine="m1",
        status="connected",
        slotsUsed=1,
        slotsTotal=4,
        platform="linux/x86_64",
        lastSeenAt="2026-06-15T11:00:00.000Z",
        running=["remote-demo / build / echo-on-worker"],
        drainedAt=None,
        note="",
    )
    orchestrator.answers["GET", "/api/workers"] = answer({"workers": [worker]})
    assert run(["worker", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "build-node  connected  1/4    linux/x86_64  2026-06-15T11:00:00.000Z"
    )
    assert run(["worker", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [worker]


def test_an_orchestrator_in_trouble_is_not_silently_replaced_by_what_is_on_record(
    repo_with_machines, orchestrator, capsys
):
    announce(repo_with_machines, orchestrator.url)
    orchestrator.answers["GET", "/api/workers"] = answer({"error": "no Redis", "code": "redis", "exitCode": 5}, 503)
    assert run(["worker", "list"]) == 5
    assert "no Redis" in capsys.readouterr().err


def test_without_workers_stdout_is_empty_and_stderr_says_how_to_connect_one(repo, capsys):
    assert run(["worker", "list"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "swamp worker connect" in printed.err
    assert run(["worker", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert not repo.state.exists()
