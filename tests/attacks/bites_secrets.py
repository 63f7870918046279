"""Defences of secrets: where they may be, who may see them, and what becomes of them when a step says them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.attacks.bites import Bite, put

SECRETS = "tests/e2e/test_secrets.py"


def _no_redaction() -> None:
    from swamp.models import redaction

    put(redaction.Redactor, "spans", lambda _self, _data: [])
    put(redaction.Redactor, "undecided", lambda _self, data: len(data))


def _no_second_redaction() -> None:
    from swamp.orchestrator import secrets

    put(secrets.StepSecrets, "outcome", lambda _self, _run, _position, outcome, _is_stored: outcome)
    put(secrets.StepSecrets, "output", lambda _self, _run, _position, _dispatch, _stream, text: text)


def _no_variables() -> None:
    from swamp.expressions.template import VaultGet
    from swamp.models import resolve

    def as_text(name: str, script: str, into: str, declared: Any, values: Mapping[VaultGet, str]) -> dict[str, object]:
        """Quoted with care, but a part of what the list of processes shows."""
        from shlex import quote

        from swamp.expressions.template import fill

        return {name: fill(script, lambda reference: quote(values[reference])), into: declared or {}}

    put(resolve, "_script", as_text)


def _no_scrubbing() -> None:
    from swamp.models import environment

    put(environment, "step_environment", lambda environ, _hidden=(): dict(environ))


def _no_wiping() -> None:
    from swamp import typed

    put(typed, "wipe", lambda *_: None)


def _no_vault_seal() -> None:
    from swamp.vaults import seal

    def in_clear(_key: bytes, key: str, value: str, _nonce: bytes) -> bytes:
        import json

        document = {"version": 1, "key": key, "nonce": "", "ciphertext": value}
        return json.dumps(document, ensure_ascii=False).encode()

    put(seal, "seal", in_clear)
    put(seal, "unseal", lambda _key, _name, content: seal._parse(content)["ciphertext"])


def _no_hash() -> None:
    from swamp.tokens import access

    put(access, "_hash", bytes.hex)


def _row(name: str, test: str, take_out: Callable[[], None]) -> Bite:
    return Bite(f"G13: {name}", f"{SECRETS}::{test}", take_out)


BITES = (
    _row("redaction", "test_a_step_gets_its_secrets_and_nothing_tells_them", _no_redaction),
    _row(
        "redaction by the orchestrator",
        "test_what_a_worker_does_not_redact_is_redacted_by_the_orchestrator",
        _no_second_redaction,
    ),
    _row("secrets as variables", "test_a_step_gets_its_secrets_and_nothing_tells_them", _no_variables),
    _row("the scrubbed environment of steps", "test_a_step_sees_nothing_of_its_worker", _no_scrubbing),
    _row("the seal of a vault", "test_a_step_gets_its_secrets_and_nothing_tells_them", _no_vault_seal),
    _row(
        "typed tokens are wiped",
        "test_every_way_to_give_a_token_keeps_it_from_other_processes[--token]",
        _no_wiping,
    ),
    Bite("hashes of client tokens", "tests/tokens/test_access.py::test_the_database_holds_no_secret", _no_hash),
)
