"""Defences of the command line's way to the orchestrator."""

from __future__ import annotations

from typing import Any

from tests.attacks.bites import Bite, put

STRANGER, CLIENTS = "tests/attacks/test_stranger_at_the_port.py", "tests/e2e/test_clients.py"


def _no_reception() -> None:
    from swamp.orchestrator import gate

    async def admit(_self: Any, _authorization: str) -> gate.Guest:
        return gate.Guest(None)

    put(gate.Reception, "admit", admit)


def _any_secret() -> None:
    from swamp.tokens import access

    put(access, "knows", lambda _token, _secret: True)


def _no_end() -> None:
    from swamp.tokens import access

    put(access, "state", lambda _token, _now: access.LIVE)


def _no_second_look() -> None:
    from swamp.orchestrator import gate

    put(gate.Reception, "still_admits", lambda _self, _guest: True)


def _no_care_for_the_token() -> None:
    from swamp.orchestrator import client

    put(client, "crosses_the_network", lambda _url: False)


def _no_fingerprint() -> None:
    from swamp.orchestrator import client

    put(client.Client, "_check_certificate", lambda _self, _connection: None)


BITES = (
    Bite("the reception", f"{STRANGER}::test_nothing_is_done_or_told_without_a_token", _no_reception),
    Bite("secrets of client tokens", f"{STRANGER}::test_many_wrong_secrets_do_not_keep_the_owner_out", _any_secret),
    Bite(
        "the end of client tokens",
        f"{CLIENTS}::test_client_tokens_are_listed_and_their_names_used_again",
        _no_end,
    ),
    Bite(
        "a second look at who listens",
        f"{CLIENTS}::test_a_revoked_token_opens_nothing_and_hears_nothing_more",
        _no_second_look,
    ),
    Bite(
        "a client token is not sent in the clear",
        f"{CLIENTS}::test_an_address_that_will_not_do_is_explained",
        _no_care_for_the_token,
    ),
    Bite(
        "the certificate that the repository's commands expect",
        "tests/e2e/test_tls.py::test_the_repositorys_commands_speak_to_no_other_certificate",
        _no_fingerprint,
    ),
)
