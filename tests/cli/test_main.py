from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

import swamp
from swamp import errors
from swamp.cli.commands import COMMANDS, GROUPS, Entry
from swamp.cli.main import run
from tests.cli.misbehaving import SECRET
from tests.processes import SWAMP, environment, run_swamp

HEAVY = (
    *("redis", "rq", "cryptography", "yaml", "starlette", "cel_expr_python", "sqlite3", "http.client"),
    *("asyncio", "uvicorn", "websockets", "msgpack", "noise", "prometheus_client", "workers"),
)


@pytest.fixture(autouse=True)
def misbehaving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In every test `swamp misbehave <how>` is a command, and no setting of the person who tests counts."""
    for name in [name for name in os.environ if name.startswith("SWAMP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(COMMANDS, ("misbehave",), Entry("tests.cli.misbehaving", "End in an error."))
    monkeypatch.chdir(tmp_path)


def make_repo(directory: Path) -> Path:
    directory.mkdir()
    (directory / ".swamp.yaml").touch()
    return directory


def buffered() -> dict[str, str]:
    """An environment in which Python holds output back until it is flushed, as it does by itself."""
    return {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.parametrize("words", list(COMMANDS), ids=" ".join)
def test_every_command_of_the_table_has_help_with_an_example_and_the_shared_options(words, capsys):
    module = import_module(COMMANDS[words].module)
    assert isinstance(module.command, click.Command)

    assert run([*words, "--help"]) == 0

    shown = capsys.readouterr().out
    assert f"Usage: swamp {' '.join(words)} " in shown
    assert "Examples:" in shown
    assert "--json" in shown
    assert "[env var: SWAMP_REPO_DIR]" in " ".join(shown.split())


@pytest.mark.parametrize("words", list(GROUPS), ids=" ".join)
def test_a_bare_group_prints_its_help(words, capsys):
    assert run(words) == 0

    shown = capsys.readouterr()
    assert shown.out.startswith(f"Usage: {' '.join(('swamp', *words))} ")
    assert "Commands:" in shown.out
    assert "Examples:" in shown.out
    assert shown.err == ""


def test_a_bare_group_lists_its_commands_as_json(capsys):
    assert run(["worker", "token", "--json"]) == 0

    listed = [row["command"] for row in json.loads(capsys.readouterr().out)]
    assert listed == [f"swamp worker token {word}" for word in ("create", "list", "rotate", "revoke")]


def test_the_version_is_printed_alone(capsys):
    assert run(["--version"]) == 0

    assert capsys.readouterr().out == f"swamp {swamp.__version__}\n"


@pytest.mark.parametrize("typed", [["--help"], ["--version"], ["worker"], ["wrker"]], ids=" ".join)
def test_help_version_and_misspelt_commands_load_nothing_heavy(typed):
    assert loaded(typed, HEAVY) == []


@pytest.mark.parametrize(
    "typed",
    [
        ["worker", "token", "list"],
        ["worker", "list"],
        ["data", "query", "true"],
        ["data", "list"],
        ["workflow", "history", "search"],
        ["workflow", "run", "nowhere"],
        ["model", "validate"],
        *[[*words, "--help"] for words in COMMANDS],
    ],
    ids=" ".join,
)
def test_what_does_not_speak_to_redis_does_not_load_its_client(typed, tmp_path):
    run(["init"])
    assert loaded(typed, ("redis", "rq", "starlette", "uvicorn", "asyncio")) == []


def loaded(typed, names):
    """Those of the modules `names` that carrying out the command line `typed` imports, in a process of its own."""
    program = (
        "import sys; from swamp.cli.main import run; run(sys.argv[1:]);"
        f"print('loaded:', *[name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, *typed], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["wrker", "list"], "swamp worker list"),
        (["worker", "tokn"], "swamp worker token"),
        (["WORKER"], "swamp worker"),
        (["token", "create", "x"], "swamp worker token create"),
        (["history"], "swamp workflow history"),
        (["connect", "ws://localhost:9090"], "swamp worker connect"),
        (["workflow", "history", "log"], "swamp workflow history logs"),
    ],
)
def test_a_misspelt_or_misplaced_command_names_the_one_that_was_meant(typed, meant, capsys):
    assert run(typed) == 2

    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith("Error: unknown command 'swamp ")
    assert error[1] == f"  did you mean: {meant}"
    assert error[2].startswith("  commands of 'swamp")


def test_an_unknown_command_lists_the_commands_of_its_group(capsys):
    assert run(["vault", "xyzzy"]) == 2

    assert capsys.readouterr().err == (
        "Error: unknown command 'swamp vault xyzzy'\n"
        "  commands of 'swamp vault': create, put, read-secret, list-keys, delete\n"
    )


def test_swamp_help_is_answered_with_the_option(capsys):
    assert run(["worker", "help"]) == 2

    assert "  type: swamp worker --help\n" in capsys.readouterr().err


def test_a_misspelt_option_names_the_nearest_and_the_usage(capsys):
    assert run(["vault", "list-keys", "v", "--jsn"]) == 2

    assert capsys.readouterr().err == (
        "Error: unknown option '--jsn'\n"
        "  did you mean: --json\n"
        "  usage: swamp vault list-keys [OPTIONS] VAULT\n"
        "  more: swamp vault list-keys --help\n"
    )


def test_a_missing_argument_names_it_and_the_usage(capsys):
    assert run(["vault", "create", "local_encryption"]) == 2

    error = capsys.readouterr().err
    assert error.startswith("Error: missing argument 'NAME'\n  usage: swamp vault create [OPTIONS] TYPE NAME\n")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("SwampError", 1),
        ("Invalid", 1),
        ("Failed", 1),
        ("Usage", 2),
        ("NotFound", 3),
        ("NotAllowed", 4),
        ("Unreachable", 5),
        ("Busy", 75),
        ("HungUp", 129),
        ("Interrupted", 130),
        ("Terminated", 143),
    ],
)
def test_an_error_is_told_on_stderr_and_its_class_is_the_exit_code(kind, code, capsys):
    assert run(["misbehave", kind]) == code

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Error: what happened\n  type this\n  or that\n"


@pytest.mark.parametrize(
    "typed",
    [["misbehave", "Busy", "--json"], ["--json", "misbehave", "Busy"], ["misbehave", "--json", "Busy"]],
    ids=" ".join,
)
def test_with_json_an_error_is_one_document_on_stderr(typed, capsys):
    assert run(typed) == 75

    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err) == {"error": "what happened", "code": "busy", "hint": "type this\nor that"}


def test_a_command_line_that_cannot_be_parsed_is_a_json_error_too(capsys):
    assert run(["vault", "list-keys", "--nope", "--json"]) == 2

    assert json.loads(capsys.readouterr().err)["code"] == "usage"


def test_the_environment_can_ask_for_json(capsys, monkeypatch):
    monkeypatch.setenv("SWAMP_JSON", "1")
    assert run(["vault", "list-keys", "--nope"]) == 2

    assert json.loads(capsys.readouterr().err)["code"] == "usage"


def test_a_word_after_two_dashes_is_no_option(capsys):
    assert run(["vault", "list-keys", "--nope", "--", "--json"]) == 2

    assert capsys.readouterr().err.startswith("Error: ")


def test_ctrl_c_ends_with_130(capsys):
    assert run(["misbehave", "ctrl-c"]) == errors.Interrupted.exit_code

    assert capsys.readouterr().err == "Error: interrupted\n"


def test_an_internal_error_shows_its_place_but_not_its_text(capsys):
    assert run(["misbehave", "unexpected"]) == 1

    error = capsys.readouterr().err
    assert error.startswith("Error: internal error: KeyError at tests/cli/misbehaving.py:")
    assert "SWAMP_DEBUG=1" in error
    assert SECRET not in error
    assert "Traceback" not in error


def test_swamp_debug_shows_the_trace_of_an_internal_error(capsys, monkeypatch):
    monkeypatch.setenv("SWAMP_DEBUG", "1")
    assert run(["misbehave", "unexpected"]) == 1

    assert f"KeyError: '{SECRET}'" in capsys.readouterr().err


def test_an_error_of_the_system_names_the_file(capsys):
    assert run(["misbehave", "file"]) == 1

    assert capsys.readouterr().err == "Error: /nowhere/at/all: No such file or directory\n  check the path\n"


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([SWAMP, "--help"], stdout=writing, stderr=subprocess.PIPE, check=False, env=buffered())
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_under_stdout_is_told_once():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([SWAMP, "--help"], stdout=full, stderr=subprocess.PIPE, check=False, env=buffered())
    told = b"Error: No space left on device\n  make room on that disk, then repeat the command\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_terminal_that_knows_only_ascii_ends_no_command(tmp_path):
    (tmp_path / "✓").mkdir()
    done = run_swamp("init", "✓", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.code == 0
    assert f"{tmp_path}/?" in done.stdout


@pytest.mark.parametrize("shape", ["{option} misbehave repo", "misbehave repo {option}"])
def test_repo_dir_is_taken_before_and_after_the_command_and_wins_over_the_environment(
    shape, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("SWAMP_REPO_DIR", str(make_repo(tmp_path / "from-environment")))
    typed = make_repo(tmp_path / "typed")
    assert run(shape.format(option=f"--repo-dir={typed}").split()) == 0

    assert capsys.readouterr().out == f"{typed}\n"


def test_the_environment_names_the_repository(tmp_path, capsys, monkeypatch):
    named = make_repo(tmp_path / "from-environment")
    monkeypatch.setenv("SWAMP_REPO_DIR", str(named))
    assert run(["misbehave", "repo"]) == 0

    assert capsys.readouterr().out == f"{named}\n"


def test_the_repository_is_found_upward(tmp_path, capsys, monkeypatch):
    root = make_repo(tmp_path / "repo")
    (root / "models" / "deep").mkdir(parents=True)
    monkeypatch.chdir(root / "models" / "deep")
    assert run(["misbehave", "repo"]) == 0

    assert capsys.readouterr().out == f"{root}\n"


def test_outside_a_repository_the_error_names_repo_init(capsys):
    assert run(["misbehave", "repo"]) == 3

    assert "swamp repo init" in capsys.readouterr().err


def test_the_shell_completes_commands(tmp_path):
    done = run_swamp(
        cwd=tmp_path,
        env={"_SWAMP_COMPLETE": "bash_complete", "COMP_WORDS": "swamp vault re", "COMP_CWORD": "2"},
    )
    assert done.stdout == "plain,read-secret\n"
