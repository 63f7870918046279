"""Defences of joining, dispatches, messages and Redis users."""

from __future__ import annotations

from typing import Any

from tests.attacks.bites import Bite, put

REDIS, BAD, TOKEN = (
    "tests/attacks/test_writes_redis.py",
    "tests/attacks/test_worker_gone_bad.py",
    "tests/attacks/test_holds_a_token.py",
)
ORDERS = "tests/attacks/test_forges_orders.py"
INTAKE, OPENER = "tests/orchestrator/test_intake.py", "tests/workers/test_opener.py"


def _no_seal() -> None:
    from swamp.wire import envelope

    def seal(_self: Any, plaintext: bytes, _associated: bytes) -> bytes:
        return plaintext

    put(envelope.Box, "seal", seal)
    put(envelope.Box, "open", seal)


def _no_place() -> None:
    from swamp.wire import messages

    put(messages, "result_place", lambda _dispatch: b"result")


def _no_signature() -> None:
    from swamp.wire import signing

    put(signing.Verifier, "_check", lambda _self, _signature, _root: None)


def _no_seen_list() -> None:
    """Nor the orchestrator's looks at what tools do, one of which may find the old dispatch before the machine does."""
    from swamp.orchestrator import buttons
    from workers import seen

    def add(_self: Any, ids: Any) -> set[str]:
        return set(ids)

    put(seen.SeenList, "add", add)
    put(buttons.Buttons, "look", lambda _self, _served: False)


def _no_expiry() -> None:
    from workers import opener

    put(opener, "Timepiece", lambda _clock: lambda: "")


def _no_numbers() -> None:
    from swamp.orchestrator import intake

    put(intake.Intake, "_is_next", staticmethod(lambda _member, _up: True))


def _no_beats() -> None:
    from swamp.orchestrator import intake

    put(intake.Intake, "_is_fresh", lambda *_: True)


def _no_number_in_heartbeats() -> None:
    from swamp.wire import messages

    put(messages.Heartbeat, "said", property(lambda _self: 0, lambda _self, _number: None))


def _no_acl() -> None:
    from swamp.broker import acl

    rules = acl.worker_rules

    def wide(target: str, machine: str, password_hash: str) -> list[str]:
        return [*rules(target, machine, password_hash)[:3], "~*", "&*", "+@all"]

    put(acl, "worker_rules", wide)


def _no_binding() -> None:
    from swamp.orchestrator import admission

    def decide(_token: Any, _bindings: Any, machine_id: str, *_: Any, **__: Any) -> admission.Admit:
        return admission.Admit(machine_id, new_binding=True)

    put(admission, "decide", decide)


def _no_superseded() -> None:
    from swamp.tokens import secrets

    known = secrets.known
    put(secrets, "known", lambda vault, token: known(vault, token)[:1])


def _no_allowed_types() -> None:
    from workers import starter

    put(starter.Starter, "_allows", lambda _self, _dispatch: True)


BITES = (
    Bite(
        "allowed types",
        "tests/attacks/test_allowed_types.py::test_a_step_of_a_type_that_is_not_allowed_fails_and_says_why",
        _no_allowed_types,
    ),
    Bite("seals", "tests/attacks/test_reads_redis.py", _no_seal),
    Bite(
        "seals of acknowledgements", f"{ORDERS}::test_a_forged_acknowledgement_makes_a_worker_forget_nothing", _no_seal
    ),
    Bite("seals of cancels", f"{ORDERS}::test_a_forged_cancel_ends_no_step", _no_seal),
    Bite("seals of grants", f"{ORDERS}::test_a_forged_grant_begins_nothing", _no_seal),
    Bite(
        "what a heartbeat tells of messages",
        f"{ORDERS}::test_a_forged_acknowledgement_makes_a_worker_forget_nothing",
        _no_number_in_heartbeats,
    ),
    Bite("the place in a seal", f"{INTAKE}::test_a_result_that_is_moved_under_another_dispatch_is_refused", _no_place),
    Bite("signatures of dispatches", f"{REDIS}::test_what_the_orchestrator_did_not_sign_is_not_run", _no_signature),
    Bite("the seen-list", f"{REDIS}::test_a_dispatch_that_was_run_is_not_run_again", _no_seen_list),
    Bite(
        "the end of a dispatch's time",
        f"{OPENER}::test_it_expires_by_the_orchestrator_s_clock_as_it_has_gone_on_since_the_welcome",
        _no_expiry,
    ),
    Bite(
        "numbers of messages",
        f"{INTAKE}::test_what_an_earlier_start_of_the_machine_says_changes_nothing_any_more",
        _no_numbers,
    ),
    Bite("numbers of heartbeats", f"{INTAKE}::test_a_heartbeat_that_is_said_again_is_no_sign_of_life", _no_beats),
    Bite("rules of a machine's Redis user", f"{BAD}::test_no_command_reaches_a_key_that_is_not_its_own", _no_acl),
    Bite("the binding of a token", f"{TOKEN}::test_a_hundred_machines_at_once_and_exactly_one_is_bound", _no_binding),
    Bite(
        "answers to replaced secrets",
        "tests/e2e/test_joining.py::test_a_joined_worker_that_comes_back_with_a_replaced_secret_is_told_so",
        _no_superseded,
    ),
)
