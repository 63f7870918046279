"""First come, first served: the order in which dispatches are first claimed, with the real core, its journal and a real
server, over machines that go away, servers that are emptied, and orchestrators that start anew."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from swamp.broker.acl import AclUser, orchestrator_rules, password_hash
from swamp.broker.embedded import EmbeddedRedis, runtime_directory
from swamp.broker.functions import Exchange, exchange
from swamp.broker.location import Location, of_socket
from swamp.data.store import Store
from swamp.orchestrator.core import Core
from swamp.orchestrator.keys import load_or_create_keys
from swamp.orchestrator.transport import Owner, RedisAddress, Transport
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import Token
from tests.redis_py import connect
from tests.stories import stories
from tests.workflows.plans import plan

USER = AclUser("swamp", tuple(orchestrator_rules(password_hash("all"))))
TARGET = "build-node"
LONG_AGO = datetime(2026, 6, 15, 12, tzinfo=UTC)

Step = tuple[str, int]  #: run and position
Places = list[set[Step]]  #: in this order; those within one set in any


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis.start(tmp_path_factory.mktemp("redis"), runtime_directory({}), [USER]) as started:
        Line.server = started
        yield started


def step_of(dispatch: str) -> Step:
    run, position, _ = dispatch.partition("--")[2].rsplit("-", 2)
    return run, int(position)


class Line(RuleBasedStateMachine):
    """`line` is who comes next, `held` what each machine has claimed and not begun: what should be."""

    server: EmbeddedRedis

    @initialize(machines=st.integers(1, 2))
    def begin(self, machines: int) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.repo = Repo(self.directory)
        self.store = Store.open(self.repo.database, self.repo.blobs, create=True)
        self.store._writer.execute("PRAGMA synchronous = OFF")
        self.keys = load_or_create_keys(self.repo, secrets.token_bytes)
        self.client = connect(unix_socket=self.server.socket_path, username=USER.name, password="all")
        self.client.flushall()
        self.runs = 0
        self.line: Places = []
        self.held: dict[str, list[Step]] = {name: [] for name in ("machine-a", "machine-b")[:machines]}
        self.oldest: list[Step] = []
        self.returned: set[Step] = set()
        with self.store.write() as tx:
            tokens.add(
                tx, Token(TARGET, "vault", "key", LONG_AGO, datetime.now(UTC) + timedelta(days=9), None), LONG_AGO
            )
            for machine in self.held:
                public = X25519PrivateKey.generate().public_key().public_bytes_raw()
                tokens.bind(tx, machine, public, TARGET, machine, LONG_AGO)
        self.start_core()

    def start_core(self) -> None:
        location = Location(of_socket(self.server.socket_path).url, USER.name, "all")
        address = RedisAddress(location, "", socket=str(self.server.socket_path))
        self.core = Core(
            self.repo,
            self.store,
            self.keys,
            Transport(Owner("me", "here"), lambda: address),
            {},
            "boot",
            lambda _: None,
        )
        with self.store.write() as tx:
            self.core._reload(tx)
            saved = self.core._save(tx)
        self.core._follow(saved)
        self.settle()

    def settle(self) -> None:
        """Go round until there is nothing to do."""
        while True:
            self.core._cycle([] if self.core._inbox.empty() else self.core._wait())
            settled = self.core.watch.up and not self.core.watch.draining and not self.core.membership.lost_claims
            if settled and self.core._inbox.empty():
                return

    # ------------------------------------------------------------------ what happens

    @rule(steps=st.integers(1, 12))
    def a_run_is_accepted(self, steps: int) -> None:
        self.runs += 1
        run = f"run-{self.runs:04}"
        self.core.ask(lambda tx: self.core.engine.accept(tx, run, plan([[[]] * steps], targets=(TARGET,))))
        self.settle()
        new = [(run, position) for position in range(steps)]
        self.line += [{step} for step in new]
        self.oldest += new

    @precondition(lambda self: self.line)
    @rule(data=st.data(), count=st.integers(1, 8))
    def a_machine_claims(self, data: st.DataObject, count: int) -> None:
        machine = data.draw(st.sampled_from(sorted(self.held)), label="machine")
        work = exchange(self.client, machine, TARGET, Exchange(claim=count)).work
        assert len(work) == min(count, sum(map(len, self.line)))
        for dispatch, _ in work:
            step = step_of(dispatch)
            assert step in self.line[0], (step, self.line[:3])
            self.line[0].remove(step)
            if not self.line[0]:
                del self.line[0]
            self.held[machine].append(step)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def a_machine_goes(self, data: st.DataObject) -> None:
        machine = data.draw(
            st.sampled_from(sorted(name for name, steps in self.held.items() if steps)), label="machine"
        )
        self.core.membership.claims_back(self.core.members[machine])
        self.settle()
        self.line[:0] = [{step} for step in self.held[machine]]
        self.returned.update(self.held[machine])
        self.held[machine] = []

    @precondition(lambda self: self.returned)  # before, it would only try the order in which they came
    @rule()
    def the_server_is_emptied(self) -> None:
        self.client.flushall()
        self.core.transport.disconnect()
        self.core.watch.start_over()
        self.settle()
        self.everything_waits_again()

    @precondition(lambda self: self.returned)
    @rule()
    def the_orchestrator_starts_anew(self) -> None:
        self.core.transport.disconnect()
        self.core._spawner.close()
        self.start_core()
        self.everything_waits_again()

    def everything_waits_again(self) -> None:
        """Nobody knows what lay in the server: what was taken back before still goes first."""
        replaced = {step_of(live.id) for live in self.core.ledger.live.values() if live.attempt > 1}
        assert replaced <= self.returned
        first = [replaced] if replaced else []
        self.line = first + [{step} for step in self.oldest if step not in replaced]
        self.held = {machine: [] for machine in self.held}

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.core.transport.disconnect()
            self.core._spawner.close()
            self.store.close()
            self.client.close()
            rmtree(self.directory)


Line.TestCase.settings = stories(40, 30)
TestLine = Line.TestCase
