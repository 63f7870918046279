"""The tutorial, typed as printed into an empty directory: an orchestrator, a worker and a person at a third terminal.

What each command prints is compared whole with a file under `golden/`, which holds what the tutorial shows. Masked are
only times, the token's secret, ids, durations and the scratch directory; the port and the cache directory are the
test's own. Where the tutorial asks an agent to create something, the `create` command is typed.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.conftest import StartSwamp
from tests.processes import free_port, port_is_free, run_swamp, type_line
from tests.waiting import wait_until

GOLDEN = Path(__file__).with_name("golden")

WORKFLOW = Path(__file__).parents[2] / "examples" / "remote-demo.yaml"
"""The workflow exactly as the tutorial prints it."""

MASKS = (
    # Times and machines are masked at their own width, so that columns are compared too.
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "YYYY-MM-DDTHH:MM:SS.mmmZ"),
    (r"\b[0-9a-f]{64}\b", "<secret>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
    (r"\b[0-9a-f]{20}\b", "<machine-id-20-hexs>"),
    (r"\b\d+(\.\d+)?(ms|s)\b", "<duration>"),
)


class Terminal:
    """Types command lines into a shell in the repository and compares what appears with a golden file."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def type(self, line: str, golden: str) -> str:
        """All that the command printed, on either stream; it must have succeeded."""
        screen = type_line(line, self._repository)
        assert self._masked(screen) == (GOLDEN / golden).read_text(encoding="utf-8"), f"$ {line}"
        return screen

    def _masked(self, text: str) -> str:
        text = text.replace(str(self._repository), "<repository>")
        for pattern, mask in MASKS:
            text = re.sub(pattern, mask, text)
        return text


def test_the_tutorial_works_as_printed(tmp_path: Path, start_swamp: StartSwamp):
    repository = tmp_path / "repository"
    repository.mkdir()
    cache = tmp_path / "swamp-worker"
    port = free_port()
    you = Terminal(repository)

    you.type("swamp repo init", "repo-init.txt")
    you.type("swamp vault create local_encryption sandbox-vault", "vault-create.txt")
    created = you.type("swamp worker token create build-node --duration 1h", "worker-token-create.txt")
    you.type("swamp worker token list", "worker-token-list-unused.txt")

    orchestrator = start_swamp("serve", "--port", str(port), cwd=repository)
    orchestrator.wait_for_line(rf"listening on ws://127\.0\.0\.1:{port}")

    (token,) = re.findall(r"^  (build-node\.[0-9a-f]{64})$", created, re.MULTILINE)
    connect = ("worker", "connect", f"ws://localhost:{port}", "--token", token, "--cache-dir", cache)
    worker = start_swamp(*connect, cwd=repository)
    worker.wait_for_line("enrolled as build-node and waiting for work")
    joined = orchestrator.wait_for_line(r"worker build-node connected \(new machine ([0-9a-f]{20}),")
    bound = you.type("swamp worker token list", "worker-token-list-bound.txt")
    machine = bound.split()[-1]
    assert machine == joined[1]

    you.type(
        """swamp model create command/shell remote-echo --arg execute.run='echo "executed on a worker"'""",
        "model-create.txt",
    )
    you.type("swamp model method run remote-echo execute", "model-method-run.txt")
    shutil.copy(WORKFLOW, repository)
    you.type("swamp workflow create remote-demo --file remote-demo.yaml", "workflow-create.txt")

    you.type("swamp workflow run remote-demo", "workflow-run.txt")
    for happened in (
        "run [0-9a-z-]+ received: workflow remote-demo",
        "step build/echo-on-worker matched target build-node",
        "step build/echo-on-worker dispatched to build-node",
        "step build/echo-on-worker finished on worker build-node: succeeded",
        "run [0-9a-z-]+ finished: succeeded",
    ):
        orchestrator.wait_for_line(happened)
    for happened in (
        "step build/echo-on-worker received: remote-echo.execute of workflow remote-demo",
        "step build/echo-on-worker executed remote-echo: succeeded",
        "step build/echo-on-worker: result returned",
    ):
        worker.wait_for_line(happened)

    you.type(
        """swamp data query \\
    'modelName == "remote-echo" && specName == "result"' \\
    --select 'attributes.stdout'""",
        "data-query.txt",
    )
    where = run_swamp("data", "query", 'modelName == "remote-echo"', "--select", "machine", cwd=repository)
    assert set(where.stdout.split()) == {machine}, "the data must have come from the worker's machine"

    assert worker.stop() == 0
    orchestrator.wait_for_line("worker build-node left")
    assert orchestrator.stop() == 0
    wait_until(lambda: port_is_free(port), "the orchestrator's port to be free")
    assert token not in orchestrator.output + worker.output
