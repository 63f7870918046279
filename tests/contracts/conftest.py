"""One Swamp at work and one dashboard per version, for all tests of this directory: they look and change nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.contracts.picture import Picture, paint
from tests.contracts.tools import VERSIONS, Dashboard, Tools, install
from tests.e2e.stage import Stage
from tests.processes import SWAMP, RunningSwamp, run_swamp


@contextmanager
def performing(directory: Path) -> Iterator[Stage]:
    """A repository with a vault, in which nothing runs any more in the end."""
    root, scratch = directory / "repository", directory / "scratch"
    scratch.mkdir()
    assert run_swamp("repo", "init", root, cwd=directory).code == 0
    assert run_swamp("vault", "create", "local_encryption", "main", cwd=root).code == 0
    started: list[RunningSwamp] = []

    def start(
        *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, inside: Sequence[str] = ()
    ) -> RunningSwamp:
        started.append(RunningSwamp(*arguments, cwd=cwd, env=env, program=(*inside, SWAMP)))
        return started[-1]

    with tempfile.TemporaryDirectory(prefix="swamp-test-", dir="/tmp", ignore_cleanup_errors=True) as runtime:
        try:
            yield Stage(root, scratch, Path(runtime), start)
        finally:
            # Who asked for a run goes first, then who works, then the orchestrator, which was started before all.
            for process in reversed(started):
                if process.running:
                    process.press_ctrl_c()
                    with suppress(AssertionError):
                        process.wait_for_end()
                process.close()
                print(f"── {process}\n{process.output}")


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Picture]:
    with performing(tmp_path_factory.mktemp("picture")) as stage:
        yield paint(stage)


@pytest.fixture(scope="session")
def installed() -> dict[str, Tools]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(VERSIONS, pool.map(install, VERSIONS), strict=True))


@pytest.fixture(scope="session", params=VERSIONS)
def tools(request: pytest.FixtureRequest, installed: dict[str, Tools]) -> Tools:
    return installed[request.param]


@pytest.fixture(scope="session")
def dashboard(tools: Tools, picture: Picture) -> Iterator[Dashboard]:
    """rq-dashboard, given what `swamp redis url` printed and nothing else."""
    running = Dashboard(tools, picture.url)
    yield running
    running.close()
