"""What keeps the promises of `docs/guarantees.md` when processes die: taken out, the experiment for it must fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.attacks.bites import Bite, put

CHAOS, LOSSES, RECOVERY = "tests/chaos/test_chaos.py", "tests/e2e/test_losses.py", "tests/e2e/test_recovery.py"
RESETS, DISKS = "tests/faults/test_resets.py", "tests/faults/test_full_disks.py"


def _runs_not_taken_up() -> None:
    from swamp.workflows import engine

    put(engine.Engine, "load", lambda _self, _tx: None)


def _no_leases() -> None:
    from swamp.orchestrator import leases

    put(leases, "newly_lost", lambda _leases, _now: [])


def _nobody_is_told() -> None:
    from workers import session

    put(session.Session, "listen_no_more", lambda _self: None)


def _lost_outputs_are_tried_again() -> None:
    from workers import contents

    real = contents.Contents.get

    def get(self: Any, checksum: str) -> bytes:
        try:
            return real(self, checksum)
        except contents.ContentLost as lost:
            raise OSError(str(lost)) from lost

    put(contents.Contents, "get", get)


def _no_grants() -> None:
    from swamp.orchestrator import dispatcher

    real = dispatcher.Dispatcher._dispatch
    put(dispatcher.Dispatcher, "_dispatch", lambda *given: replace(real(*given), grant=False))


def _beginnings_not_noted() -> None:
    from workers import seen

    put(seen.SeenList, "begin", lambda _self, _ids: None)


def _claims_not_told_apart() -> None:
    from workers import seen

    real = seen.SeenList.__init__

    def forget(self: Any, path: Any) -> None:
        real(self, path)
        self._unstarted.clear()

    put(seen.SeenList, "__init__", forget)


def _no_incarnation() -> None:
    from workers import opener

    real = opener.Opener.open

    def open_any(self: Any, dispatch_id: str, sealed: bytes) -> Any:
        try:
            return real(self, dispatch_id, sealed)
        except opener.Behind:
            self._incarnation += 1
            return open_any(self, dispatch_id, sealed)

    put(opener.Opener, "open", open_any)


def _no_marker() -> None:
    from swamp.broker import functions, keyspace

    real = functions.collect

    def collect(client: Any, machines: Any, count: int, size: int, marker: str, next_marker: str = "") -> Any:
        client.hset(keyspace.REPO, "marker", marker)
        return real(client, machines, count, size, marker, next_marker)

    put(functions, "collect", collect)


def _acknowledged_before_the_commit() -> None:
    from swamp.orchestrator import core, intake
    from swamp.wire.messages import Acknowledge

    apply, save = intake.Intake.apply, core.Core._save
    applied: list[Any] = []

    def noting(self: Any, tx: Any, member: Any, found: Any) -> Any:
        taken = apply(self, tx, member, found)
        applied.append((member, taken))
        return taken

    def too_soon(self: Any, tx: Any) -> Any:
        saved = save(self, tx)
        if applied and self.transport.up:
            self.transport.free([(m.machine, taken.last_stream_id, taken.results) for m, taken in applied])
            self._say([(m, Acknowledge(m.epoch, m.number)) for m, taken in applied if taken.acknowledge])
            applied.clear()
        return saved

    put(intake.Intake, "apply", noting)
    put(core.Core, "_save", too_soon)


def _a_result_of_any_attempt_counts() -> None:
    from swamp.orchestrator import intake

    real = intake.Intake._finished

    def finished(self: Any, tx: Any, member: Any, epoch: int, dispatch: str, outcome: Any) -> None:
        step = dispatch.rpartition("-")[0]
        latest = next((live for live in self._ledger.live if live.rpartition("-")[0] == step), dispatch)
        real(self, tx, member, epoch, latest, outcome)

    put(intake.Intake, "_finished", finished)


def _late_results_thrown_away() -> None:
    from swamp.data import journal

    put(journal, "keep_evidence", lambda *_, **__: False)


def _begun_without_a_claim() -> None:
    from importlib.resources import files

    from swamp.broker import functions

    def load_library(client: Any) -> None:
        source = files("swamp.broker").joinpath("functions.lua").read_text()
        asks = "local removed = redis.pcall('LREM', claimed, 1, item[1])"
        assert asks in source
        source = source.replace(asks, "local removed = 1")
        client.execute_command("FUNCTION", "LOAD", "REPLACE", source)

    put(functions, "load_library", load_library)


def _no_second_link() -> None:
    from workers import membership

    def give_up(_self: Any, reason: str) -> None:
        raise SystemExit(reason)

    put(membership.Membership, "drop", give_up)


def _unreadable_data_stay() -> None:
    from swamp.broker import embedded

    put(embedded, "_put_aside", lambda _data_dir: False)


def _results_in_memory_only() -> None:
    from workers import outbox

    real = outbox.Outbox.put_many

    def put_many(self: Any, items: Any) -> None:
        try:
            real(self, items)
        except OSError:
            return  # as if it had been kept

    put(outbox.Outbox, "put_many", put_many)


def _steps_end_with_the_session() -> None:
    from workers import membership

    real = membership.Membership.drop

    def drop(self: Any, reason: str) -> None:
        real(self, reason)
        for dispatch in list(self._slots.running):
            self._slots.cancel(dispatch, reason, 0.0)

    put(membership.Membership, "drop", drop)


def _steps_cut_off_at_once() -> None:
    from workers import departure

    real = departure.Departure.asked

    def stop(self: Any) -> None:
        real(self)
        self._cut("it was asked to stop")

    put(departure.Departure, "asked", stop)


def _no_keeper() -> None:
    from swamp.models import kept
    from swamp.models.direct import Direct

    put(kept, "spawner_that_leaves_nothing", lambda _most=0: Direct())


def _results_left_there() -> None:
    from swamp.broker import functions

    real = functions.free
    put(functions, "free", lambda client, freed: real(client, [(machine, last, []) for machine, last, _ in freed]))


def _what_comes_back_goes_last() -> None:
    from swamp.orchestrator import transport

    real = transport.Transport.push

    def push(self: Any, target: str, jobs: Any, *, front: bool = False, only_shown: bool = False) -> None:
        real(self, target, jobs, only_shown=only_shown)

    put(transport.Transport, "push", push)


BITES = (
    Bite(
        "G1: runs are taken up",
        f"{RECOVERY}::test_an_orchestrator_killed_while_a_placed_step_runs_goes_on_where_it_was",
        _runs_not_taken_up,
    ),
    Bite(
        "G2: leases",
        f"{LOSSES}::test_a_step_that_may_be_retried_runs_again_on_another_machine_when_its_worker_is_killed",
        _no_leases,
    ),
    Bite(
        "G2: nobody waits for an answer that nobody reads",
        "tests/workers/test_session.py::test_whoever_stores_content_is_told_when_nobody_listens_any_more",
        _nobody_is_told,
    ),
    Bite(
        "G2: what cannot be delivered fails",
        f"{LOSSES}::test_a_step_whose_output_was_lost_on_its_worker_fails",
        _lost_outputs_are_tried_again,
    ),
    Bite(
        "G3: grants",
        "tests/attacks/test_writes_redis.py::test_a_dispatch_that_runs_is_not_begun_by_another_machine",
        _no_grants,
    ),
    Bite(
        "G3: beginnings are noted",
        f"{RECOVERY}::test_a_worker_killed_while_its_step_runs_fails_the_step_when_it_comes_back",
        _beginnings_not_noted,
    ),
    Bite(
        "G3: claims are told apart from beginnings",
        f"{CHAOS}::test_what_a_killed_worker_had_not_begun_is_begun_anew_also_after_a_restart_of_the_orchestrator",
        _claims_not_told_apart,
    ),
    Bite(
        "G3: incarnations",
        "tests/workers/test_opener.py::"
        "test_what_was_pushed_before_redis_was_last_filled_is_over_and_what_was_pushed_after_it_has_to_wait",
        _no_incarnation,
    ),
    Bite("G3: the marker of a server", f"{RESETS}::test_emptied_behind_connections_that_hold", _no_marker),
    Bite(
        "G4: acknowledged behind the commit",
        f"{CHAOS}::test_a_result_is_neither_lost_nor_taken_twice_by_an_orchestrator_that_is_killed_while_it_takes_it",
        _acknowledged_before_the_commit,
    ),
    Bite(
        "G4: only the latest attempt has a result",
        "tests/orchestrator/test_intake.py::TestTrouble",
        _a_result_of_any_attempt_counts,
    ),
    Bite(
        "G4: late results are kept",
        f"{CHAOS}::test_workers_that_stood_still_longer_than_their_lease_change_nothing",
        _late_results_thrown_away,
    ),
    Bite(
        "G5: only what is claimed begins",
        f"{CHAOS}::test_workers_that_stood_still_longer_than_their_lease_change_nothing",
        _begun_without_a_claim,
    ),
    Bite(
        "G6: a worker joins again",
        "tests/faults/test_redis_trouble.py::test_redis_away_and_restarted_with_its_data",
        _no_second_link,
    ),
    Bite(
        "G6: data that cannot be read are no obstacle",
        "tests/faults/test_redis_trouble.py::test_an_embedded_server_that_cannot_read_what_it_had_written",
        _unreadable_data_stay,
    ),
    Bite(
        "G6: results wait for room on the disk",
        f"{DISKS}::test_a_workers_disk_full_while_steps_run_end_and_wait",
        _results_in_memory_only,
    ),
    Bite(
        "G7: steps go on without the orchestrator",
        f"{CHAOS}::test_an_orchestrator_restarted_again_and_again_under_load_costs_no_step",
        _steps_end_with_the_session,
    ),
    Bite(
        "G8: running steps are finished",
        f"{CHAOS}::test_workers_restarted_one_after_the_other_under_load_cost_no_step",
        _steps_cut_off_at_once,
    ),
    Bite(
        "G9: all processes of a step",
        "tests/e2e/test_following.py::test_a_running_step_is_ended_with_all_its_processes",
        _no_keeper,
    ),
    Bite(
        "G10: the keeper",
        f"{RECOVERY}::test_a_worker_killed_while_its_step_runs_fails_the_step_when_it_comes_back",
        _no_keeper,
    ),
    Bite("G11: what is on disk is freed", f"{CHAOS}::test_what_redis_holds_does_not_pile_up", _results_left_there),
    Bite("G12: what comes back goes to the front", "tests/orchestrator/test_order.py", _what_comes_back_goes_last),
)
