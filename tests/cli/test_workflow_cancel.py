"""`swamp workflow cancel`: which run is meant, and what is said about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.data import journal
from swamp.data.store import Store
from swamp.repo import Repo
from tests.orchestrator.answering import REPO_ID, Orchestrator, announce, answer

FIRST, SECOND = "5d3c9f6e-0000-4000-8000-000000000001", "5d3caaaa-0000-4000-8000-000000000002"
STARTED = "2026-06-15T11:34:00.000Z"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    (tmp_path / ".swamp.yaml").write_text(f"repoId: {REPO_ID}\n")
    (tmp_path / ".swamp").mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    for name in ("SWAMP_REPO_DIR", "SWAMP_JSON"):
        monkeypatch.delenv(name, raising=False)
    return Repo(tmp_path)


@pytest.fixture
def orchestrator(repo: Repo) -> Iterator[Orchestrator]:
    started = Orchestrator()
    announce(repo, started.url)
    yield started
    started.close()


def keep(repo: Repo, run_id: str, status: str = "running", workflow: str = "nightly") -> None:
    store = Store.open(repo.database, repo.blobs, create=True)
    with store.write() as tx:
        journal.add_run(tx, run_id, "workflow", "id", workflow, "serve", "{}", 0, STARTED)
        if status != "running":
            journal.end_run(tx, run_id, status, None, STARTED)
    store.close()


def takes_cancel(orchestrator: Orchestrator, repo: Repo, run_id: str, status: str = "running") -> None:
    def cancel(handler: BaseHTTPRequestHandler) -> None:
        if status != "running":
            store = Store.open(repo.database, repo.blobs, create=False)
            with store.write() as tx:
                journal.end_run(tx, run_id, status, None, STARTED)
            store.close()
        answer({"canceled": True})(handler)

    orchestrator.answers["POST", f"/api/runs/{run_id}/cancel"] = cancel


@pytest.mark.parametrize("name", [FIRST, "5d3c9f", "nightly"])
def test_a_run_is_named_by_its_id_the_beginning_of_it_or_its_workflow(
    repo: Repo, orchestrator: Orchestrator, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    keep(repo, FIRST)
    keep(repo, SECOND, "succeeded")
    takes_cancel(orchestrator, repo, FIRST)
    assert run(["workflow", "cancel", name]) == 0
    said = capsys.readouterr()
    assert said.out == f"Canceling run {FIRST} of nightly: its running steps are being ended.\n"
    assert said.err == f"Watch it end with: swamp workflow logs -f {FIRST}\n"
    assert orchestrator.asked[-1][:2] == ("POST", f"/api/runs/{FIRST}/cancel")


def test_a_run_of_which_nothing_runs_is_canceled_at_once(
    repo: Repo, orchestrator: Orchestrator, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(repo, FIRST)
    takes_cancel(orchestrator, repo, FIRST, "canceled")
    assert run(["workflow", "cancel", "nightly", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "run": FIRST,
        "workflowName": "nightly",
        "previousStatus": "running",
        "status": "canceled",
    }
    assert run(["workflow", "cancel", "nightly"]) == 0
    assert capsys.readouterr().out == f"Canceled before: run {FIRST} of nightly.\n"


@pytest.mark.parametrize("when", ["before", "while it is asked"])
def test_a_run_that_ended_by_itself_is_not_canceled(
    repo: Repo, orchestrator: Orchestrator, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    keep(repo, FIRST, "succeeded" if when == "before" else "running")
    takes_cancel(orchestrator, repo, FIRST, "succeeded")
    assert run(["workflow", "cancel", FIRST]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"Error: run {FIRST} of nightly had ended already: succeeded\n  see: swamp workflow history get {FIRST}\n"
    )


def test_two_runs_of_a_workflow_have_to_be_told_apart(
    repo: Repo, orchestrator: Orchestrator, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(repo, FIRST)
    keep(repo, SECOND)
    assert run(["workflow", "cancel", "nightly"]) == 1
    assert capsys.readouterr().err == (
        "Error: workflow 'nightly' has 2 runs under way\n"
        f"  swamp workflow cancel {SECOND}   # since {STARTED}\n"
        f"  swamp workflow cancel {FIRST}   # since {STARTED}\n"
    )
    assert run(["workflow", "cancel", "5d3c"]) == 1, "both ids begin so"
    assert orchestrator.asked == []


def test_without_an_orchestrator_only_what_has_not_ended_is_out_of_reach(
    repo: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(repo, FIRST)
    keep(repo, SECOND, "canceled", "weekly")
    assert run(["workflow", "cancel", "nightly", "--json"]) == 5
    refusal = json.loads(capsys.readouterr().err)
    assert refusal["code"] == "no_orchestrator"
    assert "swamp serve" in refusal["hint"]
    assert run(["workflow", "cancel", "weekly"]) == 0
    assert run(["workflow", "cancel", "monthly"]) == 3
