"""The stack of docker-compose.yml, as the person who runs it sees it, and ways to hurt it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.compose.engine import NAMESPACE, Engine, run
from tests.compose.images import BASE, REDIS
from tests.compose.shown import ROOT, shown
from tests.waiting import wait_until

PROJECT = "swamp-test"
BUILT = ("redis-users", "orchestrator", "worker", "rq-dashboard", "rq-exporter")


class Stack:
    """Of one engine, under a project name of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.typed: set[str] = set()
        """What was typed of what the documents show."""
        self.desk = engine.directory / "desk"
        """Where it is typed: beside the files that it names, and where it may write."""
        self.desk.mkdir()
        (self.desk / "examples").symlink_to(ROOT / "examples")
        engine.environment |= {
            "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
            "COMPOSE_PROJECT_NAME": PROJECT,
            "SWAMP_BASE_IMAGE": BASE,
            "SWAMP_REDIS_IMAGE": REDIS,
        }

    def type(self, page: str, heading: str, block: int = 0, *, only: str = "", **words: str) -> list[str]:
        """Type what the page shows in that block, or the lines of it that hold `only`. What each printed.

        `words` stand for what the page has in <brackets>.
        """
        printed = []
        for line in shown(page, heading)[block]:
            if only in line:
                self.typed.add(line)
                command = line
                for name, word in words.items():
                    command = command.replace(f"<{name}>", word)
                printed.append(run("sh", "-euc", command, cwd=self.desk, env=self.engine.environment))
        assert printed, f"{page} shows no {only} below {heading}"
        return printed

    def compose(self, *words: str | Path, input: bytes | None = None) -> str:
        return self.engine.docker("compose", *words, input=input)

    def build(self) -> None:
        """With the host's network: the engine has none at that time. One after the other, so that each image takes over
        the stages that those before it have made."""
        override = self.engine.directory / "build.yml"
        override.write_text("services:\n" + "".join(f"  {name}: {{build: {{network: host}}}}\n" for name in BUILT))
        files = f"{self.engine.environment['COMPOSE_FILE']}:{override}"
        with self.settings(COMPOSE_FILE=files, COMPOSE_PARALLEL_LIMIT="1"):
            self.type("docs/operations.md", "Upgrade", only="docker compose build")

    def up(self, workers: int = 1) -> None:
        self.compose("up", "--detach", "--no-build", "--wait", "--scale", f"worker={workers}")

    @contextmanager
    def settings(self, **given: str) -> Iterator[None]:
        """What the variables of docker-compose.yml are meanwhile."""
        usual = dict(self.engine.environment)
        self.engine.environment |= given
        try:
            yield
        finally:
            self.engine.environment = usual

    def swamp(self, *words: str, input: bytes | None = None) -> str:
        """A command of Swamp, beside the orchestrator."""
        return self.compose("exec", "-T", "orchestrator", "swamp", *words, input=input)

    def json(self, *words: str) -> Any:
        return json.loads(self.swamp(*words, "--json"))

    def connected(self) -> set[str]:
        return {worker["name"] for worker in self.json("worker", "list") if worker["status"] in ("idle", "busy")}

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--all", "--quiet", service).split()

    def state(self, container: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.engine.docker("inspect", "--format", "{{json .}}", container))
        return told

    def crash(self, container: str) -> None:
        """As a power cut would: nothing inside is asked. `docker kill` would count as a wish, and stay."""
        before = self.state(container)
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        wait_until(
            lambda: self.state(container)["RestartCount"] > before["RestartCount"],
            f"{container} to be started again",
            60,
        )
        self.wait_healthy(container)

    def wait_healthy(self, container: str) -> None:
        try:
            wait_until(
                lambda: self.state(container)["State"].get("Health", {}).get("Status") == "healthy",
                "health to come back",
                240,
            )
        except AssertionError as error:
            log = run("sh", "-c", f"docker logs --tail 50 {container} 2>&1", env=self.engine.environment)
            raise AssertionError(f"{error}\n{self.state(container)['State']}\n{log}") from None

    def fetch(self, container: str, url: str, token: str) -> str:
        """What a page answers to a program in that container which shows a token."""
        script = (
            "import sys, urllib.request as u\n"
            "asked = u.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + sys.stdin.read()})\n"
            "print(u.urlopen(asked, timeout=20).read().decode())"
        )
        return self.engine.docker("exec", "-i", container, "python3", "-c", script, url, input=token.encode())

    def link_of(self, container: str) -> str:
        """The end of the container's cable that lies outside of it."""
        index = self.engine.docker("exec", container, "cat", "/sys/class/net/eth0/iflink").strip()
        links = json.loads(run("ip", "-n", NAMESPACE, "-json", "link"))
        (name,) = [link["ifname"] for link in links if link["ifindex"] == int(index)]
        return str(name)

    def set_link(self, link: str, state: str) -> None:
        run("ip", "-n", NAMESPACE, "link", "set", link, state)

    def get(self, port: int, path: str) -> str:
        """What a published port answers. Published inside the namespace, and asked from there."""
        script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())"
        return run(
            "nsenter", f"--net=/run/netns/{NAMESPACE}", "python3", "-c", script, f"http://127.0.0.1:{port}{path}"
        )
