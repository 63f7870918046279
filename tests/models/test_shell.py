"""`command/shell` keeps what a command printed, exactly, however the command ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swamp.clock import from_iso
from tests.models.steps import Step, content, log, result, shell

pytestmark = pytest.mark.usefixtures("spawner")


def test_a_command_succeeds_and_leaves_a_result_and_a_log(tmp_path: Path) -> None:
    outcome = shell(tmp_path, "echo executed on a worker; echo careful >&2")
    assert (outcome.status, outcome.error) == ("succeeded", None)
    attributes = result(outcome)
    assert 0 <= attributes.pop("durationMs") <= outcome.duration_ms + 1
    assert from_iso(attributes.pop("executedAt")) <= from_iso(outcome.ended_at)
    assert attributes == {
        "stdout": "executed on a worker",
        "stderr": "careful\n",
        "exitCode": 0,
        "command": "echo executed on a worker; echo careful >&2",
    }
    assert log(outcome) == b"[stdout]\nexecuted on a worker\n[stderr]\ncareful\n"


def test_outputs_carry_their_types_and_the_tags_of_the_model(tmp_path: Path) -> None:
    outcome = shell(tmp_path, "true")
    assert [(o.spec_name, o.name, o.data_type, o.content_type, o.tags) for o in outcome.outputs] == [
        ("result", "result", "resource", "application/json", {"team": "build"}),
        ("log", "log", "file", "text/plain", {"team": "build"}),
    ]


def test_a_failing_command_keeps_what_it_printed(tmp_path: Path) -> None:
    outcome = shell(tmp_path, "echo before; echo because >&2; exit 3")
    assert (outcome.status, outcome.error) == ("failed", "Command exited with code 3")
    assert result(outcome)["exitCode"] == 3
    assert (result(outcome)["stdout"], result(outcome)["stderr"]) == ("before", "because\n")
    assert log(outcome) == b"[stdout]\nbefore\n[stderr]\nbecause\n"


def test_a_command_that_the_shell_does_not_know_fails_as_the_shell_says(tmp_path: Path) -> None:
    outcome = shell(tmp_path, "no-such-program")
    assert outcome.error == "Command exited with code 127"
    assert "no-such-program" in result(outcome)["stderr"]


def test_death_by_a_signal_is_named(tmp_path: Path) -> None:
    outcome = shell(tmp_path, "echo last words; kill -KILL $$")
    assert (outcome.status, outcome.error) == ("failed", "Command was ended by signal SIGKILL")
    assert (result(outcome)["exitCode"], result(outcome)["stdout"]) == (-9, "last words")


def test_an_ignored_exit_code_is_a_success_that_can_be_read(tmp_path: Path) -> None:
    outcome = shell(tmp_path, "exit 4", ignoreExitCode=True)
    assert (outcome.status, outcome.error, result(outcome)["exitCode"]) == ("succeeded", None, 4)


@pytest.mark.parametrize(
    ("printed", "kept"),
    [("", ""), ("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("\n", ""), (" a \n", " a "), ("a\r\n", "a\r")],
)
def test_stdout_loses_its_last_newline_and_nothing_else(tmp_path: Path, printed: str, kept: str) -> None:
    (tmp_path / "text").write_bytes(printed.encode())
    assert result(shell(tmp_path, "cat text"))["stdout"] == kept


def test_a_log_without_a_last_newline_still_has_its_headings_on_lines_of_their_own(tmp_path: Path) -> None:
    assert log(shell(tmp_path, "printf out; printf err >&2")) == b"[stdout]\nout\n[stderr]\nerr"
    assert log(shell(tmp_path, "true")) == b"[stdout]\n[stderr]\n"


@settings(max_examples=25, deadline=None)
@given(given_bytes=st.binary(max_size=300))
def test_any_bytes_arrive_unharmed(tmp_path_factory: pytest.TempPathFactory, given_bytes: bytes) -> None:
    directory = tmp_path_factory.mktemp("any")
    (directory / "bytes").write_bytes(given_bytes)
    with Step(directory, "cat bytes; cat bytes >&2") as step:
        outcome = step.run()
    assert step.printed("stdout") == step.printed("stderr") == given_bytes
    gap = b"" if given_bytes.endswith(b"\n") or not given_bytes else b"\n"
    assert log(outcome) == b"[stdout]\n" + given_bytes + gap + b"[stderr]\n" + given_bytes
    assert result(outcome)["stderr"] == given_bytes.decode("utf-8", "replace")


def test_megabytes_on_both_outputs_at_once_arrive_unharmed(tmp_path: Path) -> None:
    given_bytes = os.urandom(3_000_000) + "ä€\n".encode() * 1_000_000
    (tmp_path / "bytes").write_bytes(given_bytes)
    with Step(tmp_path, "cat bytes & cat bytes >&2; wait") as step:
        outcome = step.run()
    assert step.printed("stdout") == step.printed("stderr") == given_bytes
    assert log(outcome) == b"[stdout]\n" + given_bytes + b"[stderr]\n" + given_bytes
    assert result(outcome)["stdout"] == given_bytes[:-1].decode("utf-8", "replace")


def test_text_outside_ascii_is_stored_as_it_is_written(tmp_path: Path) -> None:
    assert b'{"stdout":"gr\xc3\xb6\xc3\x9fer",' in content(shell(tmp_path, "echo größer"), "result")


def test_the_command_runs_in_the_given_directory_or_one_below_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert result(shell(tmp_path, "pwd"))["stdout"] == str(tmp_path)
    assert result(shell(tmp_path, "pwd", workingDir="sub"))["stdout"] == str(tmp_path / "sub")
    assert result(shell(tmp_path / "sub", "pwd", workingDir=str(tmp_path)))["stdout"] == str(tmp_path)


def test_a_working_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing = shell(tmp_path, "echo never", workingDir="nowhere")
    assert (missing.status, missing.error) == ("failed", f"The working directory {tmp_path}/nowhere does not exist")
    assert missing.outputs == ()
    (tmp_path / "file").touch()
    refused = shell(tmp_path, "echo never", workingDir="file")
    assert refused.error == f"The working directory {tmp_path}/file cannot be used: Not a directory"


def test_a_command_that_no_system_can_start_fails_with_the_reason(tmp_path: Path) -> None:
    assert "longer than this system allows" in str(shell(tmp_path, "#" * 5_000_000).error)
    assert shell(tmp_path, "echo \0").error == "The command cannot be started: embedded null byte"
    assert "cannot be started" in str(shell(tmp_path, "echo \ud800").error)
    assert "cannot be started" in str(shell(tmp_path, "true", env={"A=B": "1"}).error)


def test_the_environment_is_the_given_one_and_what_the_step_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"FROM": "step", "COUNT": 3, "FLAG": True}
    with Step(tmp_path, "echo $FROM $COUNT $FLAG; env", env=environment) as step:
        monkeypatch.setenv("SECRET_OF_THE_RUNNER", "hidden")
        printed = result(step.run())["stdout"]
    assert printed.startswith("step 3 true\n")
    assert "SECRET_OF_THE_RUNNER" not in printed


def test_the_command_has_no_input(tmp_path: Path) -> None:
    assert result(shell(tmp_path, "cat; echo done"))["stdout"] == "done"


def test_the_time_limit_ends_the_command_and_keeps_what_it_printed(tmp_path: Path) -> None:
    outcome = shell(tmp_path, "echo begun; sleep 60; echo never", timeout=200)
    assert (outcome.status, outcome.error) == ("failed", "Command timed out after 200 ms")
    assert (result(outcome)["stdout"], result(outcome)["exitCode"]) == ("begun", -15)
    assert 200 <= outcome.duration_ms < 3000


def test_a_time_limit_that_is_far_away_does_no_harm(tmp_path: Path) -> None:
    assert shell(tmp_path, "true", timeout=10**15).status == "succeeded"


def test_the_time_limit_counts_even_if_the_exit_code_is_ignored(tmp_path: Path) -> None:
    assert shell(tmp_path, "sleep 60", timeout=50, ignoreExitCode=True).status == "failed"


def test_a_canceled_command_keeps_what_it_printed(tmp_path: Path) -> None:
    with Step(tmp_path, "echo begun; sleep 60") as step:
        step.start("begun")
        step.cancellation.set("canceled by ada")
        outcome = step.end()
    assert (outcome.status, outcome.error) == ("canceled", "canceled by ada")
    assert result(outcome)["stdout"] == "begun"
    assert result(outcome)["exitCode"] == -15
