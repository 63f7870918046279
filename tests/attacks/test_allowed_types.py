"""Whoever may place steps on a worker cannot make it run a type of model that its owner did not allow."""

from __future__ import annotations

from tests.e2e.stage import Stage


def test_a_step_of_a_type_that_is_not_allowed_fails_and_says_why(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token, "cache", "--allow-type", "swamp/probe")
    stage.task("owned", f"touch {stage.scratch / 'owned'}")
    done = stage.run("owned", code=1)
    assert "worker 'node' does not run models of type 'command/shell' (it allows: swamp/probe)" in done.stdout
    assert not (stage.scratch / "owned").exists()
    assert worker.stop() == 0


def test_a_step_of_an_allowed_type_runs(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token, "cache", "--allow-type", "swamp/probe", "--allow-type", "command/shell")
    stage.task("hello", "echo hello")
    stage.run("hello")


def test_a_type_that_does_not_exist_is_refused_at_once(stage: Stage):
    done = stage.swamp("worker", "connect", stage.url, "--token", f"node.{'0' * 64}", "--allow-type", "command/shel")
    assert done.code == 3
    assert "command/shell" in done.stderr
