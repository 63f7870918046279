"""Every option of every command can be set in the environment, and no secret need be typed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import click
import pytest

from swamp.cli.commands import COMMANDS, Words
from swamp.cli.main import CommandGroup, run

WORDS_OF_A_CALL = {"--arg", "--input"}
"""What is to be done, given once for each word of it: no setting, and click splits a variable at its spaces."""


def options() -> Iterator[tuple[Words, click.Option]]:
    for words, entry in COMMANDS.items():
        command: click.Command = import_module(entry.module).command
        yield from ((words, one) for one in command.params if isinstance(one, click.Option))


def names(words: Words, option: click.Option) -> list[str]:
    """The names that click looks for, as the help shows them."""
    context = click.Context(CommandGroup.at(()), info_name="swamp", auto_envvar_prefix="SWAMP")
    for length in range(1, len(words)):
        context = click.Context(CommandGroup.at(words[:length]), parent=context, info_name=words[length - 1])
    command: click.Command = import_module(COMMANDS[words].module).command
    context = click.Context(command, parent=context, info_name=words[-1])
    option.show_envvar = True
    extra = option.get_help_extra(context)
    return list(extra.get("envvars", ()))


ALL = [(words, one) for words, one in options() if one.opts[0] not in WORDS_OF_A_CALL]


@pytest.mark.parametrize(("words", "option"), ALL, ids=[f"{' '.join(words)} {one.opts[-1]}" for words, one in ALL])
def test_every_option_has_a_name_in_the_environment(words: Words, option: click.Option):
    found = names(words, option)
    assert found
    assert all(name.startswith("SWAMP_") for name in found)


def test_a_name_in_the_environment_means_one_thing():
    meanings: dict[str, set[str]] = {}
    for words, option in ALL:
        for name in names(words, option):
            meanings.setdefault(name, set()).add(option.opts[-1])
    assert {name: opts for name, opts in meanings.items() if len(opts) > 1} == {}


def test_what_is_set_in_the_environment_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    monkeypatch.setenv("SWAMP_WORKER_QUEUE_LIMIT", "none")
    assert run(["worker", "queue"]) == 2
    assert "not a whole number" in capsys.readouterr().err


def test_a_command_that_takes_a_secret_takes_it_from_the_environment_and_from_a_file():
    command: click.Command = import_module(COMMANDS["worker", "connect"].module).command
    secret = {one.opts[0]: one for one in command.params if isinstance(one, click.Option)}
    assert secret["--token"].envvar == "SWAMP_WORKER_TOKEN"
    assert "--token-file" in secret
    redis_url = {one.opts[0]: one for one in import_module(COMMANDS[("serve",)].module).command.params}["--redis-url"]
    assert redis_url.envvar == "SWAMP_REDIS_URL"
