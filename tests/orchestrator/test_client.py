"""The client against a real HTTP server whose answers each test writes down."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from swamp import errors
from swamp.orchestrator import client
from swamp.repo import Repo
from tests.orchestrator.answering import Orchestrator, announce, answer, raw, stream


def lines(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def event(seq: int, kind: str = "step-output", **more: object) -> dict[str, object]:
    return {"run": "r1", "seq": seq, "kind": kind, **more}


END = event(9, "run-finished", status="succeeded")


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    started = Orchestrator()
    yield started
    started.close()


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    (tmp_path / ".swamp").mkdir()
    return Repo(tmp_path)


def found(repo: Repo, orchestrator: Orchestrator) -> client.Client:
    announce(repo, orchestrator.url)
    reached = client.find(repo)
    assert reached is not None
    return reached


def test_no_orchestrator_is_found_where_none_was_started(repo):
    assert client.find(repo) is None


def test_a_running_orchestrator_is_found(repo, orchestrator):
    assert found(repo, orchestrator).url == orchestrator.url


def test_the_file_of_a_crashed_orchestrator_counts_as_none(repo):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        announce(repo, f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert client.find(repo) is None


def test_another_repositorys_orchestrator_on_the_port_of_a_crashed_one_is_not_taken_for_ours(repo, orchestrator):
    announce(repo, orchestrator.url)
    orchestrator.secret = "another"
    assert client.find(repo) is None
    assert orchestrator.asked == []


def test_an_orchestrator_that_names_another_repository_is_not_taken_for_ours(repo, orchestrator):
    announce(repo, orchestrator.url)
    orchestrator.answers["GET", "/api/ping"] = answer({"repoId": "another"})
    assert client.find(repo) is None


def test_some_other_web_server_on_the_port_is_not_taken_for_ours(repo, orchestrator):
    announce(repo, orchestrator.url)
    orchestrator.answers["GET", "/api/ping"] = raw(b"<html>hello</html>")
    assert client.find(repo) is None
    orchestrator.answers["GET", "/api/ping"] = raw(b"<html>not here</html>", 404)
    assert client.find(repo) is None


def test_an_orchestrator_that_takes_connections_but_says_nothing_is_unreachable_not_absent(repo, monkeypatch):
    monkeypatch.setattr(client, "PING_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        announce(repo, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(errors.Unreachable, match="did not answer within"):
            client.find(repo)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"url": "ftp://x:1", "secret": "s", "repoId": "r"}', '{"url": 5, "secret": "s"}'],
)
def test_a_damaged_file_is_an_error_that_says_what_to_do(repo, content):
    repo.serve_info.write_text(content)
    with pytest.raises(errors.Invalid) as damaged:
        client.find(repo)
    assert "swamp serve" in (damaged.value.hint or "")


def test_a_client_does_not_show_its_secret():
    assert "hidden" not in repr(client.Client("http://127.0.0.1:1", "hidden"))


def test_a_run_gives_its_events_in_order_to_the_end(repo, orchestrator):
    sent = [event(1, "run-accepted"), event(2, text="✓ ä\u2028"), event(3), END]
    orchestrator.answers["POST", "/api/runs"] = stream(lines(*sent[:1]), lines(*sent[1:]))
    reached = found(repo, orchestrator)
    assert list(reached.run({"workflow": "remote-demo"})) == sent
    assert orchestrator.asked[-1] == ("POST", "/api/runs", {"workflow": "remote-demo"})


def test_events_arrive_whole_however_the_bytes_are_cut(repo, orchestrator):
    sent = [event(seq, text="x" * 50 + "ü") for seq in range(1, 8)] + [END]
    content = lines(*sent)
    orchestrator.answers["POST", "/api/runs"] = stream(*(content[at : at + 7] for at in range(0, len(content), 7)))
    assert list(found(repo, orchestrator).run({"workflow": "w"})) == sent


def test_an_event_is_there_before_the_next_one_is_made(repo, orchestrator):
    go_on = threading.Event()

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for content in (lines(event(1)), lines(END)):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            handler.wfile.flush()
            assert go_on.wait(10)
        handler.wfile.write(b"0\r\n\r\n")

    orchestrator.answers["POST", "/api/runs"] = write
    events = found(repo, orchestrator).run({"workflow": "w"})
    assert next(events)["seq"] == 1
    go_on.set()
    assert list(events) == [END]


def test_a_run_can_be_followed_from_a_number_on(repo, orchestrator):
    orchestrator.answers["GET", "/api/runs/r1/events?after=7"] = stream(lines(event(8), END))
    assert [e["seq"] for e in found(repo, orchestrator).events("r1", after=7)] == [8, 9]


@pytest.mark.parametrize("ended", [True, False])
def test_a_stream_without_the_end_of_the_run_is_a_lost_connection(repo, orchestrator, ended):
    orchestrator.answers["POST", "/api/runs"] = stream(lines(event(1)), ended=ended)
    events = found(repo, orchestrator).run({"workflow": "w"})
    assert next(events)["seq"] == 1
    with pytest.raises(errors.Unreachable) as lost:
        next(events)
    assert lost.value.code == "connection_lost"
    assert "run r1" in lost.value.message
    assert "swamp workflow logs -f r1" in (lost.value.hint or "")


def test_a_line_cut_off_in_the_middle_is_never_taken_for_an_event(repo, orchestrator):
    orchestrator.answers["POST", "/api/runs"] = stream(lines(event(1)), lines(END)[:-1], ended=False)
    with pytest.raises(errors.Unreachable):
        list(found(repo, orchestrator).run({"workflow": "w"}))


def test_a_refused_run_raises_before_any_event_is_asked_for(repo, orchestrator):
    refusal = {"error": "no workflow 'w'", "code": "unknown_workflow", "hint": "did you mean 'v'?", "exitCode": 3}
    orchestrator.answers["POST", "/api/runs"] = answer(refusal, 404)
    with pytest.raises(errors.NotFound) as refused:
        found(repo, orchestrator).run({"workflow": "w"})
    assert refused.value.as_dict() == {key: refusal[key] for key in ("error", "code", "hint")}


@pytest.mark.parametrize(
    ("code", "exit_code", "kind"),
    [
        ("invalid", 1, errors.Invalid),
        ("failed", 1, errors.Failed),
        ("usage", 2, errors.Usage),
        ("something", 3, errors.NotFound),
        ("revoked", 4, errors.NotAllowed),
        ("redis_away", 5, errors.Unreachable),
        ("data_busy", 75, errors.Busy),
        ("new", 99, errors.SwampError),
        (None, None, errors.SwampError),
    ],
)
def test_an_error_keeps_its_class_and_so_its_exit_code(repo, orchestrator, code, exit_code, kind):
    orchestrator.answers["POST", "/api/runs/r1/cancel"] = answer(
        {"error": "it went wrong", "code": code, "exitCode": exit_code}, 500
    )
    with pytest.raises(kind, match="it went wrong") as raised:
        found(repo, orchestrator).cancel("r1")
    assert type(raised.value) is kind
    assert raised.value.code == (code or "error")


def test_an_answer_that_no_orchestrator_gives_is_told_as_such(repo, orchestrator):
    reached = found(repo, orchestrator)
    orchestrator.answers["GET", "/api/workers"] = raw(b"<html>Internal Server Error</html>", 500)
    with pytest.raises(errors.Failed, match="answered '500"):
        reached.workers()
    orchestrator.answers["GET", "/api/workers"] = raw(b"hello")
    with pytest.raises(errors.Failed, match="not understood"):
        reached.workers()
    orchestrator.answers["GET", "/api/workers"] = answer([])
    with pytest.raises(errors.Failed, match="not understood"):
        reached.workers()


def test_an_orchestrator_that_goes_away_after_it_was_found_is_unreachable(repo, orchestrator):
    reached = found(repo, orchestrator)

    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    orchestrator.answers["GET", "/api/workers"] = hang_up
    with pytest.raises(errors.Unreachable, match="closed the connection"):
        reached.workers()


def test_names_cannot_reach_another_address(repo, orchestrator):
    path = "/api/tokens/a%2F..%2Fb%3Fc/changed"
    orchestrator.answers["POST", path] = answer({})
    found(repo, orchestrator).token_changed("a/../b?c")
    assert orchestrator.asked[-1] == ("POST", path, {})


def test_the_workers_are_handed_over_as_the_orchestrator_sees_them(repo, orchestrator):
    worker = {"name": "build-node", "target": "build-node", "machine": "m1", "status": "connected", "slotsUsed": 1}
    orchestrator.answers["GET", "/api/workers"] = answer({"workers": [worker]})
    assert found(repo, orchestrator).workers() == [worker]
