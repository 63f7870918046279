"""The second look at what comes of steps: with every value that they were given, also after a restart."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from swamp.data.blobs import blob_path, put_blobs
from swamp.data.record import Blob, Output
from swamp.errors import NotFound
from swamp.models.invocation import Outcome
from swamp.orchestrator.secrets import StepSecrets
from swamp.workflows.run import Run
from tests.workflows.plans import CALL, plan

NOON = "2026-06-15T12:00:00.000Z"
NAMED = replace(CALL, arguments={"run": "x ${{ vault.get('v', 'KEY') }}", "env": {"A": "${{ vault.get('v', 'KEY') }}"}})


class Vault(dict[tuple[str, str], str]):
    def read(self, vault: str, key: str) -> str:
        if (vault, key) not in self:
            raise NotFound(f"vault '{vault}' has no secret '{key}'")
        return self[vault, key]


@pytest.fixture
def vault() -> Vault:
    return Vault({("v", "KEY"): "first-value"})


@pytest.fixture
def secrets(vault: Vault, tmp_path: Path) -> StepSecrets:
    return StepSecrets(vault.read, tmp_path)


def run_of(call=NAMED) -> Run:
    return Run("run-1", plan([[[]]], call=call), NOON)


def outcome(text: str, content: bytes | Blob = b"") -> Outcome:
    output = Output("log", "log", "file", "text/plain", content or text.encode())
    return Outcome("failed", text, (output,), NOON, NOON, 1)


def redacted(secrets: StepSecrets, run: Run, text: str) -> list[str]:
    seen = secrets.outcome(run, 0, outcome(text), lambda _: False)
    assert isinstance(seen.outputs[0].content, bytes)
    return [str(seen.error), seen.outputs[0].content.decode()]


def test_a_call_is_resolved_for_its_dispatch_and_the_plan_keeps_the_name(secrets: StepSecrets) -> None:
    run = run_of()
    call = secrets.resolved(run, 0)
    assert call.arguments == {
        "run": 'x "${SWAMP_SECRET_1}"',
        "env": {"A": "first-value", "SWAMP_SECRET_1": "first-value"},
    }
    assert call.secrets == ("first-value",)
    assert "first-value" not in run.plan.to_json()
    assert "first-value" not in repr(call)


def test_a_call_that_names_no_secret_stays_as_it_is(secrets: StepSecrets) -> None:
    run = run_of(CALL)
    assert secrets.resolved(run, 0) is CALL
    result = outcome("x")
    assert secrets.outcome(run, 0, result, lambda _: False) is result
    assert secrets.output(run, 0, "d", "stdout", "first-value") == "first-value"


def test_values_of_all_dispatches_of_a_call_are_redacted(secrets: StepSecrets, vault: Vault) -> None:
    run = run_of()
    secrets.resolved(run, 0)
    vault["v", "KEY"] = "second-value"
    assert secrets.resolved(run, 0).secrets == ("second-value",)
    assert redacted(secrets, run, "first-value second-value") == ["*** ***"] * 2


def test_after_a_restart_it_looks_for_what_the_vault_has_then(secrets: StepSecrets, vault: Vault) -> None:
    assert redacted(secrets, run_of(), "a first-value") == ["a ***"] * 2
    secrets.forget("run-1")
    vault.clear()
    assert redacted(secrets, run_of(), "a first-value") == ["a first-value"] * 2  # nobody knows it any more


def test_output_that_is_split_between_messages_is_redacted(secrets: StepSecrets, vault: Vault) -> None:
    vault["v", "KEY"] = "line one\nx\nline two"
    run = run_of()
    told = [secrets.output(run, 0, "d", "stdout", text) for text in ("a line one", "x", "line two b", "line one", "x")]
    assert told == [None, None, "a *** b", None, None]
    assert secrets.rest(run, "d") == [("stdout", "***\nx")]
    assert secrets.rest(run, "d") == []


def test_what_was_held_is_forgotten_when_it_will_be_said_again(secrets: StepSecrets, vault: Vault) -> None:
    vault["v", "KEY"] = "line one\nline two"
    run = run_of()
    assert secrets.output(run, 0, "d", "stdout", "line one") is None
    secrets.start_over()
    assert secrets.output(run, 0, "d", "stdout", "line one") is None
    assert secrets.output(run, 0, "d", "stdout", "line two") == "***"


@pytest.mark.parametrize("stored", [False, True])
def test_big_content_that_should_have_been_redacted_goes_unless_it_is_somebody_elses_data(
    secrets: StepSecrets, tmp_path: Path, stored: bool
) -> None:
    content = b"x" * 70_000 + b"first-value"
    checksum = hashlib.sha256(content).hexdigest()
    put_blobs(tmp_path, [(checksum, content)])
    seen = secrets.outcome(run_of(), 0, outcome("x", Blob(checksum, len(content))), lambda _: stored)
    assert seen.outputs[0].content == b"x" * 70_000 + b"***"
    assert blob_path(tmp_path, checksum).exists() == stored


def test_late_results_hold_no_secret_either(secrets: StepSecrets) -> None:
    assert secrets.late_outcome(NAMED, outcome("a first-value"), lambda _: False).error == "a ***"


def test_one_that_is_too_short_is_told_of_once(
    secrets: StepSecrets, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    vault["v", "KEY"] = "abc"
    run = run_of()
    secrets.resolved(run, 0)
    secrets.resolved(run, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "secret 'KEY' of vault 'v' is too short to be redacted"
    ]
