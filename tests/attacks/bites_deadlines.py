"""Defences against machines whose time is over, or who were put out."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from typing import Any

from tests.attacks.bites import Bite, put

ACL, EXPIRY, REVOKED = "tests/broker/test_acl.py", "tests/e2e/test_expiry.py", "tests/attacks/test_revoked.py"


def _no_narrow_rules() -> None:
    from swamp.broker import acl

    put(acl, "delivering_rules", lambda machine, digest: acl.worker_rules("build-node", machine, digest))


def _no_narrowing() -> None:
    from swamp.orchestrator import membership

    put(membership.Membership, "_narrow", lambda _self, _member: None)


def _no_end_of_the_grace() -> None:
    from swamp.tokens import token

    put(token, "deliver_until", lambda of, _machine: of.expires_at + timedelta(days=1))


def _no_parting() -> None:
    from swamp.orchestrator import enrollment, web

    listen = enrollment.Enrollment._listen
    put(enrollment.Enrollment, "_attend", lambda self, session, member, _deliver: listen(self, session, member))
    put(web, "CLOSE_SECONDS", 10.0)


def _no_user_deleted() -> None:
    from swamp.orchestrator import transport

    put(transport.Transport, "delete_user", lambda _self, _name: None)


def _no_new_key() -> None:
    from swamp.tokens import store

    revoke = store.revoke_machine

    def with_the_old_key(tx: sqlite3.Connection, name: str, machine: str, now: datetime) -> bool:
        done = revoke(tx, name, machine, now)
        tx.execute("UPDATE tokens SET key_generation = 1")
        return done

    put(store, "revoke_machine", with_the_old_key)


def _no_memory_of_who_was_put_out() -> None:
    from swamp.orchestrator import admission

    why_ended: Any = admission.why_ended
    put(admission, "why_ended", lambda token, _machine, now: why_ended(token, None, now))


BITES = (
    Bite(
        "the narrow rules of who delivers",
        f"{ACL}::test_a_worker_whose_time_is_over_delivers_and_does_nothing_else",
        _no_narrow_rules,
    ),
    Bite(
        "rights are narrowed at expiry",
        f"{EXPIRY}::test_a_step_that_was_started_is_delivered_and_nothing_new_is_begun",
        _no_narrowing,
    ),
    Bite(
        "the end of the grace",
        f"{EXPIRY}::test_a_step_that_is_not_done_within_the_grace_is_given_up",
        _no_end_of_the_grace,
    ),
    Bite(
        "nothing is taken from who has to go",
        f"{REVOKED}::test_who_is_revoked_is_cut_off_within_a_second_and_nothing_of_it_is_taken",
        _no_parting,
    ),
    Bite(
        "the Redis user of who has to go is deleted",
        f"{REVOKED}::test_who_is_revoked_is_cut_off_within_a_second_and_nothing_of_it_is_taken",
        _no_user_deleted,
    ),
    Bite(
        "another key for those who stay",
        f"{REVOKED}::test_one_of_a_fleet_is_put_out_and_the_others_get_another_key",
        _no_new_key,
    ),
    Bite(
        "who was put out stays out",
        f"{REVOKED}::test_one_of_a_fleet_is_put_out_and_the_others_get_another_key",
        _no_memory_of_who_was_put_out,
    ),
)
