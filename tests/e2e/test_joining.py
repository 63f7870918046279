"""Who may join, who may stay, and what everybody else is told: with an orchestrator and workers as real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.members import joined
from tests.e2e.stage import Stage
from tests.processes import RunningSwamp
from tests.waiting import wait_until
from workers.wires import Wires

NOT_ALLOWED, BUSY = 4, 75


def test_text_that_is_no_token_is_refused_before_anything_is_touched(stage: Stage):
    done = stage.swamp("worker", "connect", stage.url, "--token", "node.12ab", "--cache-dir", stage.scratch / "cache")

    assert done.code == NOT_ALLOWED
    assert "Error: this is not an enrollment token" in done.stderr
    assert "swamp worker token create <name> --duration 1h" in done.stderr
    assert "12ab" not in done.stderr, "what was typed may be most of a secret"
    assert not (stage.scratch / "cache").exists()


def test_no_token_and_no_address_are_wrong_usage(stage: Stage):
    without_token = stage.swamp("worker", "connect", stage.url)
    assert without_token.code == 2
    assert "no token was given" in without_token.stderr

    elsewhere = stage.swamp("worker", "connect", "http://localhost:9090", "--token", f"node.{'0' * 64}")
    assert elsewhere.code == 2
    assert "ws://localhost:9090" in elsewhere.stderr


def test_a_wrong_secret_and_an_unknown_name_are_refused_at_once(stage: Stage):
    name = stage.token("node").partition(".")[0]
    orchestrator = stage.serve()

    for token in (f"{name}.{'0' * 64}", f"nobody.{'0' * 64}"):
        refused = stage.connect(token)
        assert refused.wait_for_end() == NOT_ALLOWED
        assert "Error: the orchestrator turned this machine away" in refused.output
        assert "does not know this token" in refused.output
        assert "swamp worker token create" in refused.output
        orchestrator.wait_for_line("a worker was refused")

    assert stage.rows("SELECT * FROM machines") == []
    assert not (stage.scratch / "cache" / "orchestrator.pub").exists()
    assert stage.json("worker", "token", "list")[0]["state"] == "unused"


def test_an_expired_token_is_refused_at_once(stage: Stage):
    token = stage.token("brief", "1s")
    stage.serve()
    wait_until(lambda: stage.json("worker", "token", "list")[0]["state"] == "expired", "the token to expire")

    refused = stage.connect(token)
    assert refused.wait_for_end() == NOT_ALLOWED
    assert "token 'brief' expired at" in refused.output
    assert stage.rows("SELECT * FROM machines") == []


def test_a_revoked_token_is_refused_at_once(stage: Stage):
    token = stage.token()
    stage.serve()
    assert stage.swamp("worker", "token", "revoke", "node").code == 0

    refused = stage.connect(token)
    assert refused.wait_for_end() == NOT_ALLOWED
    assert "token 'node' was revoked at" in refused.output
    assert stage.rows("SELECT * FROM machines") == []


def test_a_second_machine_with_the_same_token_is_refused_and_the_first_one_stays(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    first = stage.worker(token, "first")
    bound = stage.rows("SELECT id FROM machines")

    second = stage.connect(token, "second")
    assert second.wait_for_end() == NOT_ALLOWED
    assert f"token 'node' is already bound to machine {bound[0][0]}" in second.output
    orchestrator.wait_for_line("already bound")
    (attempt,) = stage.json("worker", "token", "list")[0]["refused"]
    assert (attempt["code"], attempt["times"]) == ("already_bound", 1)
    assert attempt["machine"] not in bound[0]
    shown = stage.swamp("worker", "token", "list")
    assert f"Refused: machine {attempt['machine']} with token node (already_bound, 1 times" in shown.stderr

    assert first.running
    assert stage.workers() == {"node": "idle"}
    assert stage.rows("SELECT id FROM machines") == bound


def test_a_worker_without_a_cache_directory_says_what_that_costs(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.start("worker", "connect", stage.url, "--token", token)
    worker.wait_for_line("no --cache-dir: after a restart this is another machine")
    worker.wait_for_line("enrolled as node and waiting for work")
    assert worker.stop() == 0


def test_the_same_cache_directory_is_the_same_member_after_a_restart(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    assert stage.worker(token).stop() == 0
    before = stage.rows("SELECT id, bound_at FROM machines")
    orchestrator.wait_for_line("worker node connected .new machine")
    orchestrator.wait_for_line("worker node left")

    stage.worker(token)
    orchestrator.wait_for_line(rf"worker node connected \(machine {before[0][0]}")
    assert stage.rows("SELECT id, bound_at FROM machines") == before


def test_two_workers_cannot_share_a_cache_directory(stage: Stage):
    token = stage.token()
    stage.serve()
    first = stage.worker(token)

    second = stage.connect(token)
    assert second.wait_for_end() == BUSY
    assert f"another worker is using the cache directory {stage.scratch / 'cache'}" in second.output
    assert "a --cache-dir of its own" in second.output
    assert first.running


def test_a_cache_directory_that_cannot_be_used_is_named(stage: Stage):
    (stage.scratch / "cache").write_text("a file is in the way")
    refused = stage.connect(f"node.{'0' * 64}")
    assert refused.wait_for_end() in (1, 2)
    assert str(stage.scratch / "cache") in refused.output


def test_a_worker_waits_for_an_orchestrator_that_is_not_there_yet(stage: Stage):
    worker = stage.connect(stage.token())
    worker.wait_for_line("cannot join at .*trying again")
    stage.serve()
    worker.wait_for_line("enrolled as node and waiting for work")
    assert worker.stop() == 0


def test_ctrl_c_ends_a_worker_that_never_joined(stage: Stage):
    worker = stage.connect(stage.token())
    worker.wait_for_line("cannot join")
    assert worker.stop() == 0


@pytest.mark.parametrize("time", [1, 2, 3])
def test_revoking_ends_a_connected_worker_for_good(stage: Stage, time: int):
    """Several times, because the refusal and the cut of the connection to Redis race each other."""
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)

    revoked = stage.swamp("worker", "token", "revoke", "node")
    assert revoked.code == 0
    assert _put_out(worker).startswith("token 'node' was revoked")
    orchestrator.wait_for_line("worker node was put out: token 'node' was revoked")
    assert stage.workers() == {}

    again = stage.connect(token)
    assert again.wait_for_end() == NOT_ALLOWED
    assert "was revoked" in again.output


def test_revoking_ends_the_running_step_and_its_run(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    began = stage.scratch / "began"
    stage.task("endless", f"touch {began}; exec sleep 600")
    run = stage.start_run("endless")
    wait_until(began.exists, "the step to begin")

    assert stage.swamp("worker", "token", "revoke", "node").code == 0
    assert _put_out(worker).startswith("token 'node' was revoked")
    assert run.wait_for_end() == 1
    assert "worker 'node' was put out while the step ran: token 'node' was revoked" in run.output


def test_a_busy_worker_can_be_revoked(stage: Stage):
    """While it talks all the time, its messages and the revocation arrive together."""
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    stage.task("talk", "while :; do echo talking; done")
    run = stage.start_run("talk")
    orchestrator.wait_for_line("step build/talk started on worker node")

    assert stage.swamp("worker", "token", "revoke", "node").code == 0
    assert worker.wait_for_end() == NOT_ALLOWED
    assert run.wait_for_end() == 1
    assert "fault" not in orchestrator.output


def test_a_token_made_anew_puts_the_old_machine_out_and_lets_a_new_one_in(stage: Stage):
    old = stage.token()
    stage.serve()
    worker = stage.worker(old, "old")
    assert stage.swamp("worker", "token", "revoke", "node").code == 0
    assert worker.wait_for_end() == NOT_ALLOWED

    new = stage.token()
    assert new != old
    stage.worker(new, "new")
    stage.task("hello", "echo hello")
    stage.run("hello")

    late = stage.connect(old, "another")
    assert late.wait_for_end() == NOT_ALLOWED
    assert "token 'node' has had another secret since" in late.output
    assert stage.workers() == {"node": "idle"}


def test_a_joined_worker_that_comes_back_with_a_replaced_secret_is_told_so(stage: Stage):
    """By the orchestrator that it knows, inside the handshake: anybody else's word it would not take for an end."""
    old = stage.token()
    stage.serve()
    assert stage.worker(old).stop() == 0

    rotated = str(stage.json("worker", "token", "rotate", "node")["token"])
    late = stage.connect(old)
    assert late.wait_for_end() == NOT_ALLOWED
    assert "token 'node' has had another secret since" in late.output
    assert "swamp worker token rotate" in late.output

    stage.worker(rotated)
    assert len(stage.rows("SELECT id FROM machines")) == 1, "the same machine"


def test_a_connected_worker_lives_through_a_rotation_and_reads_the_new_secret_when_it_needs_it(stage: Stage):
    file = stage.scratch / "token"
    file.write_text(stage.token("node", "1h"))
    orchestrator = stage.serve()
    worker = stage.start("worker", "connect", stage.url, "--token-file", file, "--cache-dir", stage.scratch / "cache")
    worker.wait_for_line("enrolled as node and waiting for work")

    assert stage.swamp("worker", "token", "rotate", "node", "--duration", "7d", "--output-file", file).code == 0
    stage.task("hello", "echo hello")
    stage.run("hello")
    orchestrator.stop()
    stage.serve()
    worker.wait_for_line("joined again as node")
    stage.run("hello")


def test_when_a_token_expires_its_worker_is_put_out(stage: Stage):
    orchestrator = stage.serve()
    file = stage.scratch / "token"
    file.write_text(stage.token("brief"))
    worker = stage.start("worker", "connect", stage.url, "--token-file", file, "--cache-dir", stage.scratch / "cache")
    worker.wait_for_line("waiting for work")
    rotated = stage.swamp("worker", "token", "rotate", "brief", "--duration", "1s", "--output-file", file)
    assert rotated.code == 0
    assert _put_out(worker).startswith("token 'brief' expired at ")
    orchestrator.wait_for_line("worker brief was put out: token 'brief' expired at ")
    assert stage.workers() == {}

    new = stage.token("brief")
    stage.worker(new, "new")
    stage.task("hello", "echo hello", "brief")
    stage.run("hello")


def test_a_session_that_has_ended_before_the_loop_begins_with_it_does_not_end_the_worker(stage: Stage):
    """The loop may have waited for a silent Redis in between."""
    token = stage.token()
    stage.serve()
    with joined(stage, token) as session:
        session.close()
        Wires(session, None).cut()


def _put_out(worker: RunningSwamp) -> str:
    """Why; checks that it ended as it should."""
    assert worker.wait_for_end() == NOT_ALLOWED
    (line,) = [line for line in worker.lines if line.startswith("Error: ")]
    assert "swamp worker token create" in worker.lines[-1]
    return line.removeprefix("Error: the orchestrator turned this machine away: ")


def test_nobody_but_the_owner_may_read_what_a_worker_keeps(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    cache = stage.scratch / "cache"
    assert cache.stat().st_mode & 0o077 == 0
    assert {path.name for path in _files(cache) if path.stat().st_mode & 0o077} == set()
    assert not [path for path in _files(cache) if token.partition(".")[2].encode() in path.read_bytes()]


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
