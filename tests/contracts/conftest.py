"""One Swamp at work and one dashboard per version, for all tests of this directory: they look and change nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.contracts.picture import Picture, paint
from tests.contracts.tools import VERSIONS, Dashboard, Tools, install
from tests.processes import RunningSwamp, run_swamp


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Picture]:
    root, scratch = tmp_path_factory.mktemp("picture") / "repository", tmp_path_factory.mktemp("scratch")
    assert run_swamp("repo", "init", root, cwd=root.parent).code == 0
    assert run_swamp("vault", "create", "local_encryption", "main", cwd=root).code == 0
    runtime = tempfile.mkdtemp(prefix="swamp-test-", dir="/tmp")
    started: list[RunningSwamp] = []

    def start(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> RunningSwamp:
        started.append(RunningSwamp(*arguments, cwd=cwd, env=env))
        return started[-1]

    try:
        yield paint(root, scratch, Path(runtime), start)
    finally:
        # Who asked for a run goes first, then who works, then the orchestrator, which was started before all.
        for process in reversed(started):
            if process.running:
                process.press_ctrl_c()
                with suppress(AssertionError):
                    process.wait_for_end()
            process.close()
            print(f"── {process}\n{process.output}")
        shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(scope="session", params=VERSIONS)
def tools(request: pytest.FixtureRequest) -> Tools:
    return install(request.param)


@pytest.fixture(scope="session")
def dashboard(tools: Tools, picture: Picture) -> Iterator[Dashboard]:
    """rq-dashboard, given what `swamp redis url` printed and nothing else."""
    running = Dashboard(tools, picture.url)
    yield running
    running.close()
