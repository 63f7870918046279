from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from swamp.orchestrator.admission import Admit, Refuse, decide
from swamp.tokens.token import MOST_GRACE, Machine, Token

NOW = datetime(2026, 6, 15, 10, 0, tzinfo=UTC)
KEY, OTHER_KEY = bytes(32), b"\x01" * 32
FIRST, SECOND, THIRD = "11111111aaaaaaaaaaaa", "22222222aaaaaaaaaaaa", "33333333aaaaaaaaaaaa"


def token(name: str = "build-node", *, max_enrollments: int | None = 1, revoked: bool = False, over: bool = False):
    return Token(
        name,
        "vault",
        f"worker-token-{name}",
        created_at=NOW - timedelta(hours=1),
        expires_at=NOW + timedelta(hours=-1 if over else 1),
        revoked_at=NOW if revoked else None,
        max_enrollments=max_enrollments,
    )


def bound(machine: str = FIRST, *, worker: str = "build-node", key: bytes = KEY) -> Machine:
    return Machine(machine, key, "build-node", worker, NOW)


def refusal(*arguments, **named) -> str:
    decision = decide(*arguments, **named)
    assert isinstance(decision, Refuse), decision
    assert decision.message
    return decision.code


def test_the_first_machine_of_a_token_joins_under_the_tokens_name():
    assert decide(token(), [], FIRST, KEY, NOW) == Admit("build-node", new_binding=True)


def test_a_bound_machine_comes_back_under_the_name_it_has():
    assert decide(token(), [bound(worker="as-it-was")], FIRST, KEY, NOW) == Admit("as-it-was", new_binding=False)


def test_a_second_machine_is_refused_and_told_who_has_the_token():
    decision = decide(token(), [bound()], SECOND, OTHER_KEY, NOW)
    assert isinstance(decision, Refuse)
    assert decision.code == "already_bound"
    assert FIRST in decision.message


def test_an_unknown_token_is_refused():
    assert refusal(None, [], FIRST, KEY, NOW) == "unknown_token"


def test_a_revoked_token_is_refused_even_for_its_own_machine():
    assert refusal(token(revoked=True), [bound()], FIRST, KEY, NOW) == "revoked"


def test_an_expired_token_is_refused_even_for_its_own_machine():
    assert refusal(token(over=True), [bound()], FIRST, KEY, NOW) == "expired"


def test_an_old_secret_lets_nobody_in_not_even_a_bound_machine():
    assert refusal(token(), [bound()], FIRST, KEY, NOW, superseded=True) == "superseded"


def test_an_old_secret_of_a_token_that_is_over_is_told_so():
    assert refusal(token(revoked=True), [bound()], FIRST, KEY, NOW, superseded=True) == "revoked"


def test_a_token_both_revoked_and_expired_is_called_revoked():
    assert refusal(token(revoked=True, over=True), [], FIRST, KEY, NOW) == "revoked"


def test_a_known_machine_id_with_another_key_is_refused():
    assert refusal(token(max_enrollments=None), [bound()], FIRST, OTHER_KEY, NOW) == "already_bound"


def test_a_fleet_token_admits_as_many_machines_as_it_says():
    fleet = token(max_enrollments=2)
    first = bound(FIRST, worker=f"build-node-{FIRST[:8]}")
    second = bound(SECOND, worker=f"build-node-{SECOND[:8]}")
    assert decide(fleet, [], FIRST, KEY, NOW) == Admit("build-node-11111111", new_binding=True)
    assert decide(fleet, [first], SECOND, KEY, NOW) == Admit("build-node-22222222", new_binding=True)
    assert refusal(fleet, [first, second], THIRD, KEY, NOW) == "already_bound"
    assert decide(fleet, [first, second], SECOND, KEY, NOW) == Admit("build-node-22222222", new_binding=False)


def test_an_unlimited_token_admits_any_number_of_machines():
    many = [bound(f"{n:020x}", worker=f"build-node-{n}") for n in range(1000)]
    assert decide(token(max_enrollments=None), many, SECOND, KEY, NOW) == Admit("build-node-22222222", new_binding=True)


def test_two_machines_whose_ids_begin_alike_get_different_names():
    decision = decide(
        token(max_enrollments=None), [bound(FIRST, worker="build-node-11111111")], FIRST[:8] + "b" * 12, KEY, NOW
    )
    assert decision == Admit("build-node-11111111bbbbbbbbbbbb", new_binding=True)


def test_a_machine_cannot_leave_a_live_token_and_so_make_room_on_it():
    decision = decide(token(), [], FIRST, KEY, NOW, elsewhere=token("other"))
    assert isinstance(decision, Refuse)
    assert decision.code == "already_bound"
    assert "'other'" in decision.message


@pytest.mark.parametrize("elsewhere", [token("other", revoked=True), token("other", over=True)])
def test_a_machine_moves_from_a_token_that_is_over(elsewhere):
    assert decide(token(), [], FIRST, KEY, NOW, elsewhere=elsewhere) == Admit("build-node", new_binding=True)


def gracious(*, ago: float, grace: float) -> tuple[Token, Machine]:
    """A token that expired `ago` seconds ago, and its machine."""
    over = replace(token(), expires_at=NOW - timedelta(seconds=ago))
    return over, replace(bound(), grace=grace)


def test_a_machine_may_come_back_to_deliver_for_as_long_as_its_grace():
    over, machine = gracious(ago=29.9, grace=30)
    assert decide(over, [machine], FIRST, KEY, NOW) == Admit("build-node", new_binding=False)
    over, machine = gracious(ago=30, grace=30)
    assert refusal(over, [machine], FIRST, KEY, NOW) == "expired"


def test_no_grace_is_longer_than_the_longest():
    over, machine = gracious(ago=MOST_GRACE, grace=1e9)
    assert refusal(over, [machine], FIRST, KEY, NOW) == "expired"
    over, machine = gracious(ago=MOST_GRACE - 1, grace=1e9)
    assert isinstance(decide(over, [machine], FIRST, KEY, NOW), Admit)


def test_in_that_time_nobody_else_may():
    over, machine = gracious(ago=1, grace=30)
    assert refusal(over, [machine], FIRST, OTHER_KEY, NOW) == "expired"
    assert refusal(over, [machine], SECOND, OTHER_KEY, NOW) == "expired"
    assert refusal(over, [machine], FIRST, KEY, NOW, superseded=True) == "expired"
    assert refusal(replace(over, revoked_at=NOW), [machine], FIRST, KEY, NOW) == "revoked"


def test_a_machine_that_was_put_out_alone_stays_out_whatever_secret_it_has():
    fleet = token(max_enrollments=2)
    out = replace(bound(), revoked_at=NOW)
    assert refusal(fleet, [out], FIRST, KEY, NOW) == "revoked"
    assert refusal(replace(fleet, rotated_at=NOW + timedelta(seconds=1)), [out], FIRST, KEY, NOW) == "revoked"


def test_the_place_of_a_machine_that_was_put_out_is_free_when_the_secret_that_it_knows_is_replaced():
    fleet = token(max_enrollments=1)
    out = replace(bound(), revoked_at=NOW)
    assert refusal(fleet, [out], SECOND, OTHER_KEY, NOW) == "already_bound"
    rotated = replace(fleet, rotated_at=NOW + timedelta(seconds=1))
    assert decide(rotated, [out], SECOND, OTHER_KEY, NOW) == Admit("build-node", new_binding=True)
