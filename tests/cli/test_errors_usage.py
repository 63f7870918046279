"""Whatever is typed wrong, at whichever command: it is told in one form, with what to type, and nothing is changed."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import click
import pytest

from swamp.cli.commands import COMMANDS, Words
from swamp.cli.main import run

Capture = pytest.CaptureFixture[str]

PUT = ("vault", "put")  #: takes any number of words, and never repeats what might be a secret
WITHOUT_REPOSITORY = {
    ("init",),
    ("repo", "init"),
    ("worker", "connect"),
    ("model", "type", "search"),
    ("model", "type", "describe"),
}
RIGHT: dict[Words, list[str]] = {
    ("worker", "token", "create"): ["name", "--duration", "1h"],
    ("access", "token", "create"): ["name", "--duration", "1h"],
    ("model", "create"): ["command/shell", "name", "--arg", "execute.run=true"],
    ("data", "query"): ["true"],
}


def parameters(words: Words) -> list[click.Parameter]:
    command: click.Command = import_module(COMMANDS[words].module).command
    return command.params


def arguments(words: Words) -> list[click.Argument]:
    return [one for one in parameters(words) if isinstance(one, click.Argument)]


def right(words: Words) -> list[str]:
    """Arguments with which the command could be carried out."""
    return RIGHT.get(words, ["name" for one in arguments(words) if one.required])


def everything(root: Path) -> dict[str, bytes | None]:
    """Every file below `root` with its content."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    capsys.readouterr()
    return tmp_path


def refused(typed: list[str], root: Path, capsys: Capture) -> list[str]:
    """The lines of the error after checking that it is a usage error, that stdout is empty, and nothing was made."""
    before = everything(root)
    assert run(typed) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert everything(root) == before
    lines = shown.err.splitlines()
    assert lines[0].startswith("Error: ")
    assert all(line.startswith("  ") for line in lines[1:])
    return lines


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != PUT], ids=" ".join)
def test_an_unknown_option_is_refused_with_the_usage(words: Words, repo: Path, capsys: Capture) -> None:
    command = f"swamp {' '.join(words)}"
    first, *hint = refused([*words, *right(words), "--nosuch"], repo, capsys)
    assert first == "Error: unknown option '--nosuch'"
    assert hint[-1] == f"  more: {command} --help"
    assert hint[-2].startswith(f"  usage: {command} [OPTIONS]")


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != PUT], ids=" ".join)
def test_a_word_too_many_is_refused_with_the_usage(words: Words, repo: Path, capsys: Capture) -> None:
    first, *hint = refused([*words, *["name"] * len(arguments(words)), "surplus"], repo, capsys)
    assert first in (
        "Error: got unexpected extra argument (surplus)",
        "Error: missing option '--duration'",
    )
    assert hint[-1] == f"  more: swamp {' '.join(words)} --help"


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if any(one.required for one in arguments(words))], ids=" ".join
)
def test_a_missing_argument_is_named_with_the_usage(words: Words, repo: Path, capsys: Capture) -> None:
    first, *hint = refused(list(words), repo, capsys)
    assert first.startswith("Error: missing argument '")
    assert hint[-1] == f"  more: swamp {' '.join(words)} --help"


WITH_VALUE = [
    (words, one.opts[0])
    for words in COMMANDS
    for one in parameters(words)
    if isinstance(one, click.Option) and not one.is_flag and words != PUT
]


@pytest.mark.parametrize(
    ("words", "option"), WITH_VALUE, ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_an_option_without_its_value_is_named(words: Words, option: str, repo: Path, capsys: Capture) -> None:
    first, *hint = refused([*words, option], repo, capsys)
    assert first == f"Error: option '{option}' requires an argument"
    assert hint == [f"  more: swamp {' '.join(words)} --help"]


@pytest.mark.parametrize("words", list(COMMANDS), ids=" ".join)
def test_with_json_a_usage_error_is_one_document_on_stderr(words: Words, repo: Path, capsys: Capture) -> None:
    before = everything(repo)
    assert run([*words, "--nosuch", "--json"]) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    document = json.loads(shown.err)
    assert set(document) == {"error", "code", "hint"}
    assert document["code"] == "usage"
    assert everything(repo) == before


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in WITHOUT_REPOSITORY], ids=" ".join)
def test_outside_a_repository_every_command_says_how_to_make_one_and_makes_nothing(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*words, *right(words)]) == 3

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"Error: no Swamp repository here or above {tmp_path}\n"
        "  create one with: swamp repo init   (or name one with --repo-dir)\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", [["--repo-dir", "", "model", "validate"], ["model", "validate", "--repo-dir="]])
def test_an_empty_repo_dir_is_not_taken_for_the_current_directory(
    typed: list[str], repo: Path, capsys: Capture
) -> None:
    first = refused(typed, repo, capsys)[0]
    assert first.startswith("Error: invalid value for '--repo-dir'")
    assert first.endswith(": it is empty")


def test_an_empty_path_is_not_taken_for_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(["init", ""], tmp_path, capsys)[0].endswith(": it is empty")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["data", "query", "true", "--limit", "0"], "invalid value for '--limit': 0 is less than 1"),
        (["data", "query", "true", "--limit", "few"], "invalid value for '--limit': 'few' is not a whole number"),
        (["serve", "--port", "x"], "invalid value for '--port' (env var: 'SWAMP_PORT'): 'x' is not a whole number"),
        (
            ["serve", "--port", "65536"],
            "invalid value for '--port' (env var: 'SWAMP_PORT'): 65536 is not a number from 0 to 65535",
        ),
    ],
)
def test_a_number_that_is_none_is_told_in_plain_words(typed: list[str], told: str, repo: Path, capsys: Capture) -> None:
    assert refused(typed, repo, capsys)[0] == f"Error: {told}"


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "redis://",
        "http://redis.example",
        "redis://redis.example:99999",
        "redis://:hushhush@localhost/3",
        "redis+sentinel://localhost",
    ],
)
def test_what_is_no_redis_url_is_refused_whether_typed_or_in_the_environment(
    url: str, repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    first, hint = refused(["serve", "--redis-url", url], repo, capsys)
    assert "is not a Redis URL: " in first
    assert hint.startswith("  write for example redis://")
    assert "hushhush" not in first
    first, _ = refused(["serve", "--redis-url", "redis://localhost", "--worker-redis-url", url], repo, capsys)
    assert "--worker-redis-url holds no" in first if "hushhush" in url else "is not a Redis URL" in first
    monkeypatch.setenv("SWAMP_REDIS_URL", url)
    refused(["serve"], repo, capsys)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["worker", "create", "x"], "swamp worker token create"),
        (["model", "run", "x"], "swamp model method run"),
        (["workflow", "search"], "swamp workflow history search"),
        (["vault", "get", "v", "k"], None),
        (["data", "search"], None),
    ],
)
def test_a_group_is_only_asked_for_its_own_commands(
    typed: list[str], meant: str | None, repo: Path, capsys: Capture
) -> None:
    _, hint, *_ = refused(typed, repo, capsys)
    assert hint == f"  did you mean: {meant}" if meant else hint.startswith("  commands of 'swamp ")


def test_what_an_error_repeats_does_not_act_on_the_terminal(repo: Path, capsys: Capture) -> None:
    assert run(["vault", "create", "local_encryption", "a\x1b[31m\nb"]) == 2
    assert capsys.readouterr().err.startswith(r"Error: 'a\x1b[31m\nb' cannot be the name of a vault" + "\n")


def test_what_an_error_repeats_does_not_fill_the_terminal(repo: Path, capsys: Capture) -> None:
    assert run(["vault", "create", "local_encryption", "a" * 100_000]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert len(first) < 2_100
    assert first.endswith("a' cannot be the name of a vault")


@pytest.mark.parametrize(
    "typed",
    [
        ["worker", "token", "create", "Node", "--duration", "1h"],
        ["worker", "token", "create", "node", "--duration", "soon"],
        ["worker", "token", "create", "node", "--duration", "1h", "--max-enrollments", "some"],
        ["worker", "token", "rotate", "node", "--duration", "soon"],
        ["worker", "verify", "--timeout", "soon"],
        ["worker", "drain", "node", "--timeout", "soon"],
        ["worker", "queue", "--limit", "0"],
        ["worker", "connect", "http://localhost", "--token", "x"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--idle-timeout", "soon"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--grace", "soon"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--grace", "-1"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--grace", "nan"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--grace", "2d"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--max-dispatches", "0"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--concurrency", "many"],
        ["worker", "connect", "ws://localhost:1", "--token", f"node.{'0' * 64}", "--health-port", "70000"],
        ["workflow", "run", "any", "--timeout", "soon"],
        ["workflow", "create", "No Name"],
        ["model", "create", "command/shell", "No Name"],
        ["vault", "create", "local_encryption", "No Name"],
        ["serve", "--port", "many"],
        ["serve", "--log-format", "xml"],
    ],
    ids=" ".join,
)
def test_what_can_be_seen_to_be_wrong_without_looking_elsewhere_is_wrong_usage(
    typed: list[str], repo: Path, capsys: Capture
) -> None:
    refused(typed, repo, capsys)
