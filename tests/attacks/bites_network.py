"""Defences of the orchestrator's port, and of what passes between it and its workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.attacks.bites import Bite, put

FLOOD = "tests/attacks/test_floods_the_port.py"
STRANGER, WIRE, EXPOSURE = (
    "tests/attacks/test_stranger_at_the_port.py",
    "tests/attacks/test_on_the_network_without_tls.py",
    "tests/orchestrator/test_exposure.py",
)


def _no_host_check() -> None:
    from swamp.orchestrator import gate

    put(gate, "names_us", lambda _host, _hosts: True)


def _no_origin_check() -> None:
    from starlette.datastructures import Headers

    from swamp.orchestrator import gate

    def forgetful(**where: Any) -> Headers:
        known = Headers(**where)
        return Headers({name: value for name, value in known.items() if name != "origin"})

    put(gate, "Headers", forgetful)


def _no_longest_body() -> None:
    from swamp.orchestrator import gate

    put(gate, "LONGEST_BODY", 1 << 60)


def _no_longest_frame() -> None:
    from swamp.orchestrator import web

    put(web, "LONGEST_FRAME", 1 << 60)


def _no_longest_first_frame() -> None:
    from swamp.orchestrator import web

    put(web, "LONGEST_FIRST_FRAME", 1 << 60)


def _no_end_of_room() -> None:
    from swamp.orchestrator import strangers

    put(strangers.Strangers, "come", lambda _self, _who, _close: None)


def _no_impatience() -> None:
    from swamp.orchestrator import web

    put(web._ImpatientProtocol, "_wait", lambda _self: None)


def _no_slowness() -> None:
    from swamp.orchestrator import slowness

    async def failed(_self: Any, _name: str) -> bool:
        return True

    put(slowness.Slowness, "failed", failed)


def _no_noise() -> None:
    from swamp.wire import noise

    put(noise._Party, "encrypt", lambda _self, plaintext: plaintext)
    put(noise._Party, "decrypt", lambda _self, message: message)


def _no_pin() -> None:
    from workers import session

    shake_hands: Any = session._shake_hands

    def naive(websocket: Any, token: str, secret: bytes, identity: Any, hello: Any) -> Any:
        """As a machine that takes every orchestrator for its first."""
        known = SimpleNamespace(private=identity.private, pinned=None, pin=identity.pin)
        return shake_hands(websocket, token, secret, known, hello)

    put(session, "_shake_hands", naive)


def _no_exposure_checks() -> None:
    from swamp.orchestrator import exposure

    put(exposure, "check_binding", lambda _host, **_: None)
    put(exposure, "check_redis", lambda _url, _worker_url, **_: None)


BITES = (
    Bite(
        "the host that is asked for",
        f"{STRANGER}::test_a_page_whose_name_was_made_to_point_here_reads_nothing",
        _no_host_check,
    ),
    Bite("the origin of requests", f"{STRANGER}::test_a_page_of_another_origin_reaches_nothing", _no_origin_check),
    Bite("the longest request", f"{STRANGER}::test_long_requests_are_not_kept_in_memory", _no_longest_body),
    Bite("the longest frame", f"{FLOOD}::test_a_joined_machine_is_read_a_mebibyte_at_a_time", _no_longest_frame),
    Bite("the longest first frame", f"{FLOOD}::test_a_stranger_is_read_for_a_few_bytes_only", _no_longest_first_frame),
    Bite(
        "room for so many strangers",
        f"{FLOOD}::test_a_crowd_of_strangers_keeps_nobody_from_working_or_joining",
        _no_end_of_room,
    ),
    Bite("impatience", f"{STRANGER}::test_connections_that_say_nothing_or_drip_are_closed", _no_impatience),
    Bite("slowness", f"{STRANGER}::test_many_wrong_secrets_do_not_keep_the_owner_out", _no_slowness),
    Bite(
        "the session's encryption",
        f"{WIRE}::test_a_capture_of_joining_holds_no_token_and_no_password_of_redis",
        _no_noise,
    ),
    Bite(
        "the pinned orchestrator",
        f"{WIRE}::test_a_stranger_in_the_orchestrators_place_does_not_make_a_worker_give_up",
        _no_pin,
    ),
    Bite(
        "TLS off loopback", f"{EXPOSURE}::test_other_machines_need_tls_or_the_word_of_who_serves", _no_exposure_checks
    ),
    Bite(
        "TLS to Redis", f"{EXPOSURE}::test_a_redis_elsewhere_needs_tls_or_the_word_of_who_serves", _no_exposure_checks
    ),
)
