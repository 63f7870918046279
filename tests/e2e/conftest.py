"""Every end-to-end test has a repository of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSwamp
from tests.e2e.leaks import secrets_told
from tests.e2e.stage import Stage
from tests.processes import RunningSwamp, run_swamp


@pytest.fixture(scope="session")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a vault, to be copied."""
    root = tmp_path_factory.mktemp("initialized") / "repository"
    assert run_swamp("repo", "init", root, cwd=root.parent).code == 0
    assert run_swamp("vault", "create", "local_encryption", "main", cwd=root).code == 0
    return root


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Where sockets are made: a short path, and nobody else's."""
    with tempfile.TemporaryDirectory(prefix="swamp-test-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture
def stage(tmp_path: Path, initialized: Path, runtime: Path, start_swamp: StartSwamp) -> Iterator[Stage]:
    """At the end, while its processes still run, no secret is anywhere but where it is kept."""
    root, scratch = tmp_path / "repository", tmp_path / "scratch"
    shutil.copytree(initialized, root)
    scratch.mkdir()
    started: list[RunningSwamp] = []

    def start(*arguments: str | Path, **how: Any) -> RunningSwamp:
        started.append(start_swamp(*arguments, **how))
        return started[-1]

    stage = Stage(root, scratch, runtime, start)
    yield stage
    assert secrets_told(root, scratch, [one for one in started if one not in stage.blabs]) == []
