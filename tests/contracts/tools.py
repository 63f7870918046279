"""Stock tools in environments of their own, as an operator installs them: they know nothing of Swamp."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import Ended, environment, free_port, port_is_free
from tests.waiting import wait_until

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-tools"
"""Kept between runs; `make clean` removes it."""

VERSIONS = ("rq-2.12", "rq-3.0")
"""Each is an environment, pinned by the file of that name."""


@dataclass(frozen=True)
class Tools:
    """RQ of one version with what belongs to it."""

    directory: Path

    def run(self, program: str, *arguments: str | Path) -> Ended:
        """Run a program of the environment to its end. The terminal is wide, so that no line is broken."""
        done = subprocess.run(
            [self.directory / "bin" / program, *arguments],
            cwd=self.directory,
            env=_environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=30,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)


def install(name: str) -> Tools:
    """The environment `name`: the one that is there, if it was made of the same packages by the same Python."""
    directory, requirements = ENVIRONMENTS / name, HERE / f"{name}.txt"
    stamp = directory / "made-of"
    wanted = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes beside this one want it too
        if not (stamp.exists() and stamp.read_text() == wanted):
            shutil.rmtree(directory, ignore_errors=True)
            venv.create(directory)
            pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", directory / "bin" / "python", "install"]
            options = ["--quiet", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]
            subprocess.run([*pip, *options, requirements], check=True, timeout=300)
            stamp.write_text(wanted)
    return Tools(directory)


@dataclass(frozen=True)
class Answer:
    """What a web page said."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        assert self.status == 200, self
        return json.loads(self.text)


class Service:
    """A running tool with a web server, that was given an address and nothing else."""

    def __init__(self, tools: Tools, program: str, *arguments: str) -> None:
        self.port = free_port()
        self._log = (tools.directory / f"{program}-{self.port}.log").open("w+")
        self._process = subprocess.Popen(
            [tools.directory / "bin" / program, *arguments, "-p", str(self.port)],
            cwd=tools.directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(self._up_or_over, f"{program} to listen", timeout=20)
            assert self._process.poll() is None, f"{program} ended: {Path(self._log.name).read_text()}"
        except BaseException:
            self.close()
            raise

    def get(self, path: str) -> Answer:
        return self._ask("GET", path)

    def post(self, path: str) -> Answer:
        """Press a button."""
        return self._ask("POST", path)

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(10)
        self._log.close()
        Path(self._log.name).unlink()

    def _up_or_over(self) -> bool:
        return self._process.poll() is not None or not port_is_free(self.port)

    def _ask(self, method: str, path: str) -> Answer:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as response:
                return Answer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode())


class Dashboard(Service):
    """rq-dashboard."""

    def __init__(self, tools: Tools, url: str) -> None:
        super().__init__(tools, "rq-dashboard", "-b", "127.0.0.1", "-u", url)


class Exporter(Service):
    """rq-exporter."""

    def __init__(self, tools: Tools, url: str) -> None:
        super().__init__(tools, "rq-exporter", "--host", "127.0.0.1", "--redis-url", url)


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in environment().items() if not name.startswith(("RQ_", "PYTHON"))}
    return {**inherited, "COLUMNS": "200", "LANG": "C.UTF-8"}
