"""The stage on one machine, its workers on another: two network namespaces."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.stage import Stage
from tests.namespaces import Machine, missing, two_machines
from tests.processes import RunningSwamp


@dataclass
class Apart:
    """The stage is on one machine, workers are on the other."""

    stage: Stage
    near: Machine
    far: Machine

    def serve(self, *arguments: str) -> RunningSwamp:
        bind = ("--host", self.near.address, "--insecure-bind")
        orchestrator = self.stage.start("serve", "--port", str(self.stage.port), *bind, *arguments)
        orchestrator.wait_for_line("listening on ws://")
        return orchestrator

    def worker(self, token: str, cache: str = "cache", *arguments: str) -> RunningSwamp:
        worker = dataclasses.replace(self.stage, inside=self.far.inside).connect(token, cache, *arguments)
        worker.wait_for_line("enrolled as .* and waiting for work")
        return worker

    def reachable(self, port: int) -> bool:
        """From the worker's machine."""

        def knock() -> bool:
            with socket.socket() as probe:
                probe.settimeout(2)
                return probe.connect_ex((self.near.address, port)) == 0

        return self.far.within(knock)


@pytest.fixture
def apart(stage: Stage) -> Iterator[Apart]:
    lacking = missing()
    if lacking:
        pytest.skip(lacking)
    with two_machines() as (near, far):
        yield Apart(dataclasses.replace(stage, inside=near.inside, host=near.address), near, far)
