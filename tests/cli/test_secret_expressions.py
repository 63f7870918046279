"""Expressions that name secrets, on the command line: what works, and what is said when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import Ended, run_swamp

STEP = """
name: flow
jobs:
  - name: build
    steps:
      - name: tell
        task: {type: model_method, modelIdOrName: teller, methodName: execute, inputs: {run: "INPUT"}}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    assert run_swamp("repo", "init", cwd=tmp_path).code == 0
    assert run_swamp("vault", "create", "local_encryption", "main", cwd=tmp_path).code == 0
    assert run_swamp("vault", "put", "main", "KEY", cwd=tmp_path, stdin="it's; $(touch x)\n").code == 0
    return tmp_path


def ref(vault: str = "main", key: str = "KEY") -> str:
    return f"${{{{ vault.get('{vault}', '{key}') }}}}"


def create(repository: Path, *arguments: str) -> Ended:
    given = [word for argument in arguments for word in ("--arg", f"execute.{argument}")]
    return run_swamp("model", "create", "command/shell", "teller", *given, cwd=repository)


def run(repository: Path, *arguments: str) -> Ended:
    return run_swamp("model", "method", "run", "teller", "execute", *arguments, cwd=repository)


def test_a_method_run_here_gets_the_secret_and_does_not_show_it(repository: Path) -> None:
    assert create(repository, f"run=printf %s {ref()} | wc -c; echo [{ref()}]; echo [$A]", f"env.A={ref()}").code == 0
    done = run(repository)
    assert (done.code, done.stdout) == (0, "16\n[***]\n[***]\n")
    stored = b"".join(file.read_bytes() for file in repository.rglob("*") if file.is_file())
    assert b"touch x" not in stored
    assert not (repository / "x").exists()


def test_an_input_may_name_a_secret_too(repository: Path) -> None:
    create(repository, "run=true")
    assert run(repository, "--input", f"run=echo '{ref()}'").stdout == "***\n"


@pytest.mark.parametrize(
    ("expression", "code", "said"),
    [
        (ref(key="KEX"), 3, "vault 'main' has no secret 'KEX'"),
        (ref("mian"), 3, "there is no vault 'mian'; did you mean 'main'?"),
        (ref(key="worker-token-node"), 4, "is an enrollment token, which no step may see"),
        ("${{ env.HOME }}", 1, "holds ${{ env.HOME }}, which cannot be evaluated"),
        ("${{ vault.get('main', 'KEY')", 1, "holds ${{ without }}"),
        (f"`{ref()}`", 1, f"'run' holds {ref()} between backquotes (line 1)"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_named(repository: Path, expression: str, code: int, said: str) -> None:
    create(repository, "run=true")
    done = run(repository, "--input", f"run=echo {expression}")
    assert done.code == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_looks_into_the_vaults(repository: Path) -> None:
    create(repository, f"run=echo {ref(key='KEX')}")
    done = run_swamp("model", "validate", "teller", "--json", cwd=repository)
    assert done.code == 1
    failed = [check for check in json.loads(done.stdout)["validations"] if not check["passed"]]
    assert failed == [
        {
            "name": "Secrets of execute (run)", "passed": False,
            "error": f"{ref(key='KEX')}: vault 'main' has no secret 'KEX'",
            "hint": "see what it has: swamp vault list-keys main",
        }
    ]  # fmt: skip


def test_a_workflow_names_file_line_and_step_of_a_missing_secret_before_it_begins(repository: Path) -> None:
    create(repository, "run=true")
    (repository / "flow.yaml").write_text(STEP.replace("INPUT", f"touch begun; echo {ref(key='KEX')}"))
    created = run_swamp("workflow", "create", "flow", "--file", "flow.yaml", cwd=repository)
    assert created.code == 0
    assert "Before it can run: flow.yaml:6: step 'tell': " in created.stderr
    for command in (("workflow", "run", "flow"), ("workflow", "validate", "flow")):
        done = run_swamp(*command, cwd=repository)
        assert done.code != 0
        assert "step 'tell': " in done.stdout + done.stderr
        assert "vault 'main' has no secret 'KEX'" in done.stdout + done.stderr
    assert not (repository / "begun").exists()


def test_putting_a_secret_that_is_too_short_to_be_redacted_says_so(repository: Path) -> None:
    done = run_swamp("vault", "put", "main", "PIN", cwd=repository, stdin="123\n")
    assert done.code == 0
    assert "fewer than 4 characters" in done.stderr
