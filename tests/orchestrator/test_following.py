"""Following a run over cut connections: every event once, in order, whatever the other side does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swamp import errors
from swamp.data import journal
from swamp.data.store import Store
from swamp.orchestrator import following
from swamp.repo import Repo
from swamp.workflows.events import Event
from tests.orchestrator.answering import Orchestrator, announce, answer, stream
from tests.orchestrator.test_client import event, lines

RUN = "r1"
EVENTS: list[Event] = [event(seq, text=f"line {seq}") for seq in range(1, 20)] + [event(20, "run-finished")]


@pytest.fixture(scope="module")
def orchestrator() -> Iterator[Orchestrator]:
    started = Orchestrator()
    yield started
    started.close()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(following, "LONGEST_PAUSE", 0.01)
    (tmp_path / ".swamp").mkdir()
    repo = Repo(tmp_path)
    Store.open(repo.database, repo.blobs, create=True).close()
    return repo


def keep(repo: Repo, events: list[Event]) -> None:
    store = Store.open(repo.database, repo.blobs, create=False)
    with store.write() as tx:
        journal.add_events(tx, events)
    store.close()


def cut(events: list[Event], repeated: int = 0) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers with these events, begins with some that were told before, and ends as a crash would."""
    first = int(str(events[0]["seq"])) - 1 if events else 0
    return stream(lines(*EVENTS[max(0, first - repeated) : first], *events), ended=False)


def script(orchestrator: Orchestrator, cuts: list[int], repeated: int) -> None:
    """Cut the connection behind each of these numbers of events, then tell the rest."""
    orchestrator.answers = {key: do for key, do in orchestrator.answers.items() if "events" not in key[1]}
    borders = [0, *sorted(set(cuts))]
    for start, end in zip(borders, [*borders[1:], len(EVENTS)], strict=True):
        path = f"/api/runs/{RUN}/events?after={start}"
        orchestrator.answers["GET", path] = cut(EVENTS[start:end], repeated)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(EVENTS) - 1), max_size=5), repeated=st.integers(0, 3))
def test_every_event_comes_once_and_in_order_wherever_the_connection_is_cut(
    repo: Repo, orchestrator: Orchestrator, cuts: list[int], repeated: int
) -> None:
    announce(repo, orchestrator.url)
    script(orchestrator, cuts, repeated)
    notices: list[str] = []
    assert list(following.follow(repo, RUN, notices.append)) == EVENTS
    assert notices == [
        "The orchestrator is away; waiting for it. Ctrl-C leaves, the run goes on.",
        "The orchestrator is back.",
    ] * len(set(cuts))


def test_while_no_orchestrator_answers_the_database_is_read(repo: Repo, orchestrator: Orchestrator) -> None:
    keep(repo, EVENTS[:8])
    notices: list[str] = []
    events = following.follow(repo, RUN, notices.append)
    assert [next(events) for _ in range(8)] == EVENTS[:8]
    assert notices == []
    script(orchestrator, [8], 0)
    announce(repo, orchestrator.url)
    assert list(events) == EVENTS[8:]
    assert notices[-1] == "The orchestrator is back."


def test_the_end_of_a_run_is_found_in_the_database_when_nobody_comes_back(repo: Repo) -> None:
    keep(repo, EVENTS)
    assert list(following.follow(repo, RUN, lambda _: None)) == EVENTS


def test_what_the_orchestrator_refuses_ends_it(repo: Repo, orchestrator: Orchestrator) -> None:
    announce(repo, orchestrator.url)
    orchestrator.answers["GET", f"/api/runs/{RUN}/events?after=0"] = answer(
        {"error": "no such run", "code": "not_found", "exitCode": 3}, 404
    )
    with pytest.raises(errors.NotFound, match="no such run"):
        list(following.follow(repo, RUN, lambda _: None))
