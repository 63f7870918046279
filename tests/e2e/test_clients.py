"""Commands on other machines: with TLS and a client token they do what they do in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.certificates import Certificates, sign
from tests.e2e.stage import Stage, until
from tests.processes import Ended, RunningSwamp, run_swamp
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return sign(tmp_path_factory.mktemp("certificates"), "localhost")


class Elsewhere:
    """A machine without a repository, whose environment says where the orchestrator is."""

    def __init__(self, stage: Stage, files: Certificates, token: str) -> None:
        self.directory = stage.scratch / "elsewhere"
        self.directory.mkdir()
        self._stage = stage
        self.env = {
            "SWAMP_SERVER_URL": f"https://localhost:{stage.port}",
            "SWAMP_SERVER_TOKEN": token,
            "SWAMP_CA_CERT": str(files.ca),
        }

    def swamp(self, *arguments: str | Path, **env: str) -> Ended:
        return run_swamp(*arguments, cwd=self.directory, env={**self.env, **env})

    def start(self, *arguments: str) -> RunningSwamp:
        return self._stage.start_swamp(*arguments, cwd=self.directory, env=self.env)


def client_token(stage: Stage, name: str = "laptop") -> str:
    return str(stage.json("access", "token", "create", name, "--duration", "1h")["token"])


@pytest.fixture
def elsewhere(stage: Stage, files: Certificates) -> Elsewhere:
    token = client_token(stage)
    orchestrator = stage.start(
        "serve", "--port", str(stage.port), "--cert-file", files.certificate, "--key-file", files.key
    )
    orchestrator.wait_for_line("listening on wss://")
    return Elsewhere(stage, files, token)


def test_a_workflow_is_run_followed_and_canceled_from_another_machine(stage: Stage, elsewhere: Elsewhere):
    stage.task("hello", "echo hello", target="")
    done = elsewhere.swamp("workflow", "run", "hello")
    assert done.code == 0, done
    assert "│ hello" in done.stdout
    assert elsewhere.swamp("workflow", "logs", "hello").stdout == "[build/hello] hello\n"
    assert elsewhere.swamp("workflow", "logs", "-f", "hello").stdout == "[build/hello] hello\n"
    assert "had ended already: succeeded" in elsewhere.swamp("workflow", "cancel", "hello").stderr
    assert json.loads(elsewhere.swamp("worker", "list", "--json").stdout) == []

    began = stage.scratch / "began"
    stage.task("endless", f"echo first; touch {began}; exec sleep 600", target="")
    run = elsewhere.swamp("workflow", "run", "endless", "--detach").stdout.strip()
    following = elsewhere.start("workflow", "logs", "-f", run)
    following.wait_for_line("first")
    wait_until(began.exists, "the step to begin")
    assert elsewhere.swamp("workflow", "logs", run).stdout == "[build/endless] first\n"
    canceled = elsewhere.swamp("workflow", "cancel", "endless", "--json")
    assert json.loads(canceled.stdout) == {
        "run": run, "workflowName": "endless", "previousStatus": "running", "status": "canceling"
    }  # fmt: skip
    assert following.wait_for_end() == 1


def test_a_revoked_token_opens_nothing_and_hears_nothing_more(stage: Stage, elsewhere: Elsewhere):
    go = stage.scratch / "go"
    stage.task("patient", f"echo first; {until(go)}; echo second", target="")
    run = elsewhere.swamp("workflow", "run", "patient", "--detach").stdout.strip()
    following = elsewhere.start("workflow", "logs", "-f", run)
    following.wait_for_line("first")

    assert "✓ Client token laptop revoked." in stage.swamp("access", "token", "revoke", "laptop").stdout
    assert following.wait_for_end() == 4
    assert "client token 'laptop' was revoked" in following.output
    go.touch()
    wait_until(lambda: stage.statuses() == {"patient": "succeeded"}, "the run to go on without its watcher")
    assert "second" not in following.output
    refused = elsewhere.swamp("workflow", "run", "patient")
    assert refused.code == 4
    assert "was revoked" in refused.stderr


def test_client_tokens_are_listed_and_their_names_used_again(stage: Stage):
    assert "No client tokens" in stage.swamp("access", "token", "list").stderr
    assert stage.json("access", "token", "list") == []
    text = client_token(stage)
    again = stage.swamp("access", "token", "create", "laptop", "--duration", "1h")
    assert (again.code, "already exists" in again.stderr) == (1, True)
    file = stage.scratch / "token.txt"
    shown = stage.swamp("access", "token", "create", "ci", "--duration", "1y", "--output-file", file)
    assert "swamp-client." not in shown.stdout
    assert file.read_text().startswith("swamp-client.ci.")
    assert file.stat().st_mode & 0o777 == 0o600
    listed = stage.swamp("access", "token", "list")
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [["ci", "valid"], ["laptop", "valid"]]
    assert text.rpartition(".")[2] not in listed.stdout
    assert stage.json("access", "token", "revoke", "laptop")["alreadyRevoked"] is False
    assert stage.json("access", "token", "revoke", "laptop")["alreadyRevoked"] is True
    assert client_token(stage) != text
    missing = stage.swamp("access", "token", "revoke", "desktop")
    assert (missing.code, "swamp access token list" in missing.stderr) == (3, True)
    assert stage.swamp("access", "token", "create", "UPPER", "--duration", "1h").code == 1
    for wrong in (["create", "x", "--duration", "soon"], ["create", "x"]):
        assert stage.swamp("access", "token", *wrong).code == 2


@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        ({"SWAMP_SERVER_TOKEN": ""}, 2, "no client token was given for --server"),
        ({"SWAMP_SERVER_TOKEN": "node." + "1" * 64}, 4, "this is not a client token"),
        ({"SWAMP_SERVER_TOKEN": "swamp-client.laptop." + "1" * 64}, 4, "does not accept this token"),
        ({"SWAMP_SERVER_TOKEN": "swamp-client.desktop." + "1" * 64}, 4, "does not accept this token"),
        ({"SWAMP_CA_CERT": ""}, 5, "the certificate of https://localhost"),
        ({"SWAMP_CA_CERT": "/nowhere.pem"}, 3, "there is no file /nowhere.pem"),
        ({"SWAMP_SERVER_TOKEN_FILE": "nowhere.txt"}, 3, "there is no token file nowhere.txt"),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_never_repeated(
    elsewhere: Elsewhere, env: dict[str, str], code: int, says: str
):
    done = elsewhere.swamp("worker", "list", **env)
    assert done.code == code, done
    assert says in done.stderr
    assert "1111" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("https://me:hushhush@swamp.example", 1, "holds a user, a password or a token"),
        ("https://hushhush@swamp.example", 1, "holds a user, a password or a token"),
        ("https://swamp.example/?token=hushhush", 1, "holds a user, a password or a token"),
        ("http://swamp.example:9090", 4, "ssh -N -L 9090:localhost:9090 swamp.example"),
        ("wss://swamp.example:9090", 1, "write https://swamp.example:9090"),
        ("swamp.example", 1, "write for example https://swamp.example:9090"),
        ("https://swamp.example/path", 1, "is not the address of an orchestrator"),
        ("http://localhost:1", 5, "no orchestrator answers at http://localhost:1"),
        ("https://no-such-host.invalid", 5, "cannot be reached"),
    ],
)
def test_an_address_that_will_not_do_is_explained(tmp_path: Path, url: str, code: int, says: str):
    env = {"SWAMP_SERVER_TOKEN": "swamp-client.laptop." + "1" * 64}
    for arguments in (["workflow", "run", "x"], ["workflow", "logs", "x"], ["workflow", "cancel", "x"]):
        done = run_swamp(*arguments, "--server", url, cwd=tmp_path, env=env)
        assert done.code == code, done
        assert says in done.stderr
        assert "hushhush" not in done.stderr


def test_a_command_that_works_in_a_repository_only_says_so(tmp_path: Path):
    done = run_swamp("data", "list", cwd=tmp_path, env={"SWAMP_SERVER_URL": "https://swamp.example:9090"})
    assert done.code == 3
    assert "works in a repository only" in done.stderr
    assert "workflow run" in done.stderr
    typed = run_swamp("data", "list", "--server", "https://swamp.example:9090", cwd=tmp_path)
    assert typed.code == 2
    assert "works in a repository only" in typed.stderr
