"""The history commands over a journal as an engine leaves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.data import journal
from swamp.data.store import Store
from swamp.repo import Repo
from tests.output.events import Story, tutorial

RUN = "5d3c9f6e-0000-4000-8000-000000000001"


def keep(repo: Repo, story: Story, status: str, error: str | None = None) -> None:
    store = Store.open(repo.database, repo.blobs, create=True)
    with store.write() as tx:
        created, ended = str(story.events[0]["time"]), str(story.events[-1]["time"])
        # What a command drives and nobody holds the lock of would have ended.
        owner = "serve" if status == "running" else "command"
        journal.add_run(tx, story.run, "workflow", "id", story.workflow, owner, "{}", 0, created)
        journal.add_events(tx, story.events)
        if status != "running":
            journal.end_run(tx, story.run, status, error, ended)
    store.close()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    (tmp_path / ".swamp.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in ("SWAMP_REPO_DIR", "SWAMP_JSON"):
        monkeypatch.delenv(name, raising=False)
    return Repo(tmp_path)


def of_tutorial() -> Story:
    story = Story(run=RUN)
    story.events = [{**event, "run": RUN} for event in tutorial()]
    return story


def of_failure() -> Story:
    story = Story("nightly", run="77aa")
    story.accepted([("build", ["compile", "test"]), ("ship", ["upload"])])
    story.add("job-started", job="build")
    story.started("build", "compile")
    story.output("build", "compile", "cc: \x1b[31mno such file\ngiving up", stream="stderr")
    story.finished("build", "compile", "failed", "Command exited with code 2")
    story.finished("build", "test", "skipped")
    story.add("job-finished", job="build", status="failed")
    story.finished("ship", "upload", "skipped")
    story.add("job-finished", job="ship", status="skipped")
    story.ended("failed", "build/compile: Command exited with code 2", failed=1, skipped=2)
    return story


def test_runs_are_listed_newest_first(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    keep(repo, of_tutorial(), "succeeded")
    keep(repo, of_failure(), "failed", "build/compile: Command exited with code 2")
    assert run(["workflow", "history", "search"]) == 0
    assert capsys.readouterr().out == (
        "RUN                                   WORKFLOW     STATUS     STARTED                   TOOK\n"
        "77aa                                  nightly      failed     2026-06-15T11:34:01.000Z  9.0s\n"
        f"{RUN}  remote-demo  succeeded  2026-06-15T11:34:01.000Z  7.0s\n"
    )
    assert run(["workflow", "history", "search", "remote-demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "id": RUN,
            "workflowName": "remote-demo",
            "status": "succeeded",
            "createdAt": "2026-06-15T11:34:01.000Z",
            "endedAt": "2026-06-15T11:34:08.000Z",
            "durationMs": 7000,
            "error": None,
        }
    ]
    assert run(["workflow", "history", "search", "--limit", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_repository_in_which_nothing_ran_has_an_empty_history(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["workflow", "history", "search", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["workflow", "history", "search"]) == 0
    assert capsys.readouterr() == ("", "No runs yet.\n")
    assert not repo.database.exists()


def test_a_run_is_shown_with_its_jobs_steps_and_errors(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    keep(repo, of_failure(), "failed", "build/compile: Command exited with code 2")
    assert run(["workflow", "history", "get", "nightly"]) == 0
    assert capsys.readouterr().out == (
        "Run: 77aa\n"
        "Workflow: nightly\n"
        "Status: failed\n"
        "Started: 2026-06-15T11:34:01.000Z\n"
        "Took: 9.0s\n"
        "\n"
        "JOB    STEP     STATUS   TOOK  TARGET  WORKER\n"
        "build           failed   5.0s\n"
        "build  compile  failed   12ms  -       -\n"
        "build  test     skipped  12ms  -       -\n"
        "ship            skipped  -\n"
        "ship   upload   skipped  12ms  -       -\n"
        "\n"
        "build/compile: Command exited with code 2\n"
    )


def test_a_run_as_a_document_has_everything_its_events_tell(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    keep(repo, of_tutorial(), "succeeded")
    assert run(["workflow", "history", "get", RUN[:8], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["id"], document["status"]) == (RUN, "succeeded")
    assert document["jobs"] == [
        {
            "name": "build",
            "status": "succeeded",
            "startedAt": "2026-06-15T11:34:02.000Z",
            "endedAt": "2026-06-15T11:34:07.000Z",
            "durationMs": 5000,
            "steps": [
                {
                    "name": "echo-on-worker",
                    "status": "succeeded",
                    "target": "build-node",
                    "modelName": "remote-echo",
                    "methodName": "execute",
                    "machine": "",
                    "worker": "build-node",
                    "startedAt": "2026-06-15T11:34:04.000Z",
                    "endedAt": "2026-06-15T11:34:06.000Z",
                    "durationMs": 12,
                    "error": None,
                    "dataArtifacts": [],
                }
            ],
        }
    ]


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story("nightly", run="77aa")
    story.accepted([("build", ["compile", "test"])], target="build-node")
    story.add("job-started", job="build")
    story.queued("build", "test", "build-node")
    story.started("build", "compile", "build-node", "build-node-1")
    keep(repo, story, "running")
    assert run(["workflow", "history", "get", "77aa"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "Status: running",
        "Started: 2026-06-15T11:34:01.000Z",
        "",
        "JOB    STEP     STATUS   TOOK  TARGET      WORKER",
        "build           running  -",
        "build  compile  running  -     build-node  build-node-1",
        "build  test     queued   -     build-node  -",
    ]


def test_logs_name_the_step_of_every_line_and_hold_nothing_that_acts(
    repo: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(repo, of_failure(), "failed")
    assert run(["workflow", "history", "logs", "nightly"]) == 0
    assert capsys.readouterr().out == ("[build/compile] cc: \\x1b[31mno such file\n[build/compile] giving up\n")
    assert run(["workflow", "history", "logs", "nightly", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == {
        "time": "2026-06-15T11:34:04.000Z",
        "job": "build",
        "step": "compile",
        "stream": "stderr",
        "text": "cc: \x1b[31mno such file",
    }
    assert second["text"] == "giving up"
    assert run(["workflow", "history", "logs", "nightly", "--step", "build/test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_logs_longer_than_what_is_read_at_once_are_complete(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story("chatty", run="88bb")
    story.accepted([("all", ["a"])])
    for number in range(2999):
        story.output("all", "a", str(number))
    keep(repo, story, "running")
    assert run(["workflow", "history", "logs", "88bb"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"[all/a] {number}" for number in range(2999)]


@pytest.mark.parametrize("word", ["get", "logs"])
def test_a_run_that_does_not_exist_is_not_found(repo: Repo, capsys: pytest.CaptureFixture[str], word: str) -> None:
    keep(repo, of_tutorial(), "succeeded")
    assert run(["workflow", "history", word, "absent"]) == 3
    assert capsys.readouterr().err == (
        "Error: no run and no workflow with runs is called 'absent'\n  list runs with: swamp workflow history search\n"
    )


def test_a_method_run_is_no_workflow_run_but_its_id_finds_it(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story("", run="99cc")
    story.accepted([("remote-echo", ["execute"])])
    story.output("remote-echo", "execute", "hello")
    store = Store.open(repo.database, repo.blobs, create=True)
    with store.write() as tx:
        journal.add_run(tx, "99cc", "method", "", "", "command", "{}", 1, "2026-06-15T11:34:01.000Z")
        journal.add_events(tx, story.events)
    store.close()
    assert run(["workflow", "history", "search", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["workflow", "history", "logs", "99cc"]) == 0
    assert capsys.readouterr().out == "[remote-echo/execute] hello\n"


def test_a_killed_run_whose_end_cannot_be_written_can_still_be_looked_at(
    repo: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swamp.data.store.BUSY_TIMEOUT_MS", 50)
    store = Store.open(repo.database, repo.blobs, create=True)
    with store.write() as tx:
        journal.add_run(tx, RUN, "workflow", "id", "nightly", "command", "{}", 0, "2026-06-15T11:34:01.000Z")
    with store.write():
        for word in (["search"], ["get", RUN]):
            assert run(["workflow", "history", *word]) == 0
            assert "running" in capsys.readouterr().out
    store.close()
