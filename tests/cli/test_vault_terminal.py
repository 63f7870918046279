"""What a person meets who types at a real terminal (a pseudo-terminal that is the command's own)."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import SWAMP, environment, run_swamp
from tests.waiting import wait_until

VALUE = "hunter2-the-value"


class Terminal:
    """`swamp <arguments>` on a terminal; `screen` is all that was shown."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.screen = ""
        self._keyboard, theirs = os.openpty()
        self._process = subprocess.Popen(
            [SWAMP, *arguments],
            cwd=cwd,
            env=environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def answer(self, question: str, keys: str) -> None:
        """Wait for `question`, then type `keys`."""
        wait_until(lambda: self._look() and question in self.screen, f"the question {question!r}")
        os.write(self._keyboard, keys.encode())

    def end(self) -> int:
        """Wait for the command's end; its exit code."""
        wait_until(lambda: not self._look(), "the command to close its terminal")
        return self._process.wait(timeout=10)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)
        os.close(self._keyboard)

    def _look(self) -> bool:
        """Read what was shown; False when the command has closed the terminal."""
        while select.select([self._keyboard], [], [], 0)[0]:
            try:
                shown = os.read(self._keyboard, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                return False
            if not shown:
                return False
            self.screen += shown.decode().replace("\r\n", "\n")
        return True


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    run_swamp("init", cwd=tmp_path)
    run_swamp("vault", "create", "local_encryption", "main", cwd=tmp_path)
    return tmp_path


@pytest.fixture
def at_terminal(repo: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments, cwd=repo))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def stored(repo: Path, key: str) -> str:
    return run_swamp("vault", "read-secret", "main", key, cwd=repo).stdout


def test_a_value_is_asked_for_and_not_shown(at_terminal, repo):
    terminal = at_terminal("vault", "put", "main", "k")
    terminal.answer("Value for k: ", f"{VALUE}\n")

    assert terminal.end() == 0
    assert VALUE not in terminal.screen
    assert stored(repo, "k") == VALUE


def test_an_unknown_vault_is_told_before_a_value_is_asked_for(at_terminal):
    terminal = at_terminal("vault", "put", "mian", "k")

    assert terminal.end() == 3
    assert "Value for" not in terminal.screen


@pytest.mark.parametrize(("answer", "code", "kept"), [("y", 0, "new"), ("n", 1, "old"), ("", 1, "old")])
def test_overwriting_asks(answer, code, kept, at_terminal, repo):
    run_swamp("vault", "put", "main", "k", "old", cwd=repo)

    terminal = at_terminal("vault", "put", "main", "k", "new")
    terminal.answer("Overwrite the secret 'k' in vault 'main'? [y/N] ", f"{answer}\n")

    assert terminal.end() == code
    assert stored(repo, "k") == kept
    assert ("nothing was changed" in terminal.screen) is (code == 1)


def test_overwriting_asks_before_the_value_is_typed(at_terminal, repo):
    run_swamp("vault", "put", "main", "k", "old", cwd=repo)

    terminal = at_terminal("vault", "put", "main", "k")
    terminal.answer("[y/N] ", "y\n")
    terminal.answer("Value for k: ", "new\n")

    assert terminal.end() == 0
    assert stored(repo, "k") == "new"


@pytest.mark.parametrize(("answer", "code", "kept"), [("yes", 0, ""), ("n", 1, VALUE)])
def test_deleting_asks(answer, code, kept, at_terminal, repo):
    run_swamp("vault", "put", "main", "k", VALUE, cwd=repo)

    terminal = at_terminal("vault", "delete", "main", "k")
    terminal.answer("Delete the secret 'k' from vault 'main'? [y/N] ", f"{answer}\n")

    assert terminal.end() == code
    assert stored(repo, "k") == kept


def test_end_of_input_declines(at_terminal, repo):
    run_swamp("vault", "put", "main", "k", "old", cwd=repo)

    terminal = at_terminal("vault", "delete", "main", "k")
    terminal.answer("[y/N] ", "\x04")

    assert terminal.end() == 1
    assert stored(repo, "k") == "old"


def test_a_secret_on_the_terminal_ends_with_a_newline(at_terminal, repo):
    run_swamp("vault", "put", "main", "k", VALUE, cwd=repo)

    terminal = at_terminal("vault", "read-secret", "main", "k")

    assert terminal.end() == 0
    assert terminal.screen == f"{VALUE}\n"
