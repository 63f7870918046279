"""The tutorial, performed for real in three terminals: an orchestrator, a worker, and a person who runs a workflow.

`make demo` runs this. Each command is shown as a person would type it, is typed just so into a shell, and what it
printed is shown. It all happens in a scratch directory that is removed at the end. Exit code 1 means that something
did not go as the tutorial says; the last thing printed tells what.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

WORKFLOW = Path(__file__).with_name("remote-demo.yaml")
TUTORIAL_PORT = 9090
PATIENCE = 30.0
"""Seconds that anything here may take."""

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
MACHINE = r"[0-9a-f]{20}"
TOKEN = r"build-node\.[0-9a-f]{64}"

# What the tutorial shows, as patterns for the whole of a command's output.
TOKEN_CREATED = rf"""Token: build-node
Expires: {TIME}
Vault: sandbox-vault \(key worker-token-build-node\)

  {TOKEN}

This token is shown once and will not be displayed again — store it now\.
"""
TOKEN_LIST_UNUSED = rf"""NAME        STATE   EXPIRES                   BOUND MACHINE
build-node  unused  {TIME}  -
"""
TOKEN_LIST_BOUND = rf"""NAME        STATE  EXPIRES                   BOUND MACHINE
build-node  bound  {TIME}  {MACHINE}
"""
WORKFLOW_RUN = r"""build {59}✓echo-on-worker
│ executed on a worker
── @swamp/workflow-summary ─{33}
# remote-demo: succeeded

1 succeeded · 0 failed · 0 skipped
"""
DATA_QUERY = r"""swamp data query \
    'modelName == "remote-echo" && specName == "result"' \
    --select 'attributes.stdout'"""


class Deviation(Exception):
    """Something did not happen as the tutorial says."""


class Terminal:
    """One of the tutorial's terminal windows: commands are typed into it, one after another, in the repository."""

    in_front: ClassVar[str] = ""
    """Title of the window that was shown last."""

    def __init__(self, title: str, repository: Path) -> None:
        self._title = title
        self._repository = repository
        self._screen = repository.parent / f"{title}.log"
        self._screen.touch()
        self._shown = 0
        self._searched = 0
        self._running: subprocess.Popen[bytes] | None = None

    def type(self, line: str, shows: str = "") -> str:
        """Type a command, wait for its end, show and return what it printed: all of it must match `shows`, if given."""
        self._show(f"$ {line}")
        command = subprocess.Popen(
            ["sh", "-c", line],
            cwd=self._repository,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = command.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(command.pid, signal.SIGKILL)
            raise Deviation(f"the last command did not end within {PATIENCE:g} s") from None
        print(printed, flush=True)
        if command.returncode != 0:
            raise Deviation(f"the last command ended with exit code {command.returncode}")
        if shows and not re.fullmatch(shows, printed):
            raise Deviation(f"the last command should have printed something like:\n\n{shows}")
        return printed

    def start(self, line: str) -> None:
        """Type a command that goes on running."""
        self._show(f"$ {line}")
        with self._screen.open("ab") as screen:
            self._running = subprocess.Popen(
                ["sh", "-c", f"exec {line}"],
                cwd=self._repository,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def see(self, *patterns: str) -> None:
        """Wait until lines like these have appeared, in this order; then show all that is new."""
        for pattern in patterns:
            wait_until(partial(self._find, pattern), f"a line like '{pattern}' in {self._title}")
        self.show_what_is_new()

    def show_what_is_new(self) -> None:
        """What the running command has printed since the last look."""
        text = self._screen.read_text(errors="replace")
        new, self._shown = text[self._shown :], len(text)
        if new:
            self._show(new)

    def press_ctrl_c(self) -> None:
        """What a terminal does on Ctrl-C: SIGINT to all that runs in it; then wait for the command to end well."""
        assert self._running is not None
        self._show("^C")
        os.killpg(self._running.pid, signal.SIGINT)
        try:
            code = self._running.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Deviation(f"the command in {self._title} did not end within {PATIENCE:g} s of Ctrl-C") from None
        self._running = None
        self.show_what_is_new()
        if code != 0:
            raise Deviation(f"after Ctrl-C the command in {self._title} ended with exit code {code}")

    def close(self) -> None:
        """Close the window, whatever still runs in it."""
        if self._running is not None:
            if self._running.poll() is None:
                os.killpg(self._running.pid, signal.SIGKILL)
                self._running.wait()
            self.show_what_is_new()

    def _show(self, text: str) -> None:
        if Terminal.in_front != self._title:
            Terminal.in_front = self._title
            print(f"── {self._title} ".ljust(100, "─"), flush=True)
        print(text, flush=True)

    def _find(self, pattern: str) -> bool:
        found = re.compile(pattern).search(self._screen.read_text(errors="replace"), self._searched)
        if found:
            self._searched = found.end()
        elif self._running is not None and self._running.poll() is not None:
            raise Deviation(f"the command in {self._title} ended by itself")
        return found is not None


def wait_until(predicate: Callable[[], bool], what: str) -> None:
    """Wait for a fact. Raises `Deviation` when it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not predicate():
        if time.monotonic() > deadline:
            raise Deviation(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.01)


def port_to_serve_on() -> int:
    """The tutorial's port, or another one if somebody else listens there."""
    for port in (TUTORIAL_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            free: int = probe.getsockname()[1]
            return free
    raise Deviation("no TCP port is free")


def perform(scratch: Path) -> None:
    """The tutorial, from an empty directory to clean-up."""
    repository = scratch / "repository"
    repository.mkdir()
    shutil.copy(WORKFLOW, repository)
    port = port_to_serve_on()
    serve = "swamp serve" if port == TUTORIAL_PORT else f"swamp serve --port {port}"
    first, second, third = (Terminal(f"terminal {number}", repository) for number in (1, 2, 3))
    try:
        first.type("swamp repo init")
        first.type("swamp vault create local_encryption sandbox-vault")
        created = first.type("swamp worker token create build-node --duration 1h", TOKEN_CREATED)
        first.type("swamp worker token list", TOKEN_LIST_UNUSED)
        first.start(serve)
        first.see("listening on ws://")

        token = re.findall(TOKEN, created)[0]
        second.start(f"swamp worker connect ws://localhost:{port} --token {token} --cache-dir {scratch}/swamp-worker")
        second.see("enrolled as build-node and waiting for work")
        first.see("worker build-node connected")

        third.type("swamp worker token list", TOKEN_LIST_BOUND)
        third.type("""swamp model create command/shell remote-echo --arg execute.run='echo "executed on a worker"'""")
        third.type("swamp model method run remote-echo execute", r"executed on a worker\n(.*\n)*")
        third.type(f"swamp workflow create remote-demo --file {WORKFLOW.name}")
        third.type("swamp workflow run remote-demo", WORKFLOW_RUN)
        first.see(
            "received: workflow remote-demo",
            "matched target build-node",
            "dispatched to build-node",
            "finished: succeeded",
        )
        second.see("echo-on-worker received", "executed remote-echo: succeeded", "result returned")
        third.type(DATA_QUERY, "executed on a worker\n")

        second.press_ctrl_c()
        first.see("worker build-node left")
        first.press_ctrl_c()
    finally:
        second.close()
        first.close()


def main() -> int:
    """Exit code: 0 when all went as the tutorial says."""
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    for name in [name for name in os.environ if name.startswith("SWAMP_")]:
        del os.environ[name]  # settings of the person who runs this are not part of the tutorial
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clean-up below happens
    with tempfile.TemporaryDirectory(prefix="swamp-demo-") as scratch:
        try:
            perform(Path(scratch))
        except Deviation as deviation:
            print(f"\nThe demo deviates from the tutorial: {deviation}", file=sys.stderr)
            return 1
    print("The step ran on the worker, its result is in the repository, and nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
