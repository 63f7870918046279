"""Puts secrets in the places of a call that name them, at the moment of its dispatch. Never imported by a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from swamp.errors import Invalid, SwampError
from swamp.expressions.template import VaultGet, fill, parse, references
from swamp.models.invocation import Invocation
from swamp.models.quoting import quoted
from swamp.models.types import find_type

#: Tells the secret that a vault keeps under a key. Raises a `SwampError` that names both.
ReadSecret = Callable[[str, str], str]

VARIABLE = "SWAMP_SECRET_"  #: begins the names of variables that hold secrets; a number follows


def secrets_of(call: Invocation) -> list[VaultGet]:
    """The secrets that the call names, each once."""
    return list(dict.fromkeys(references(call.arguments)))


def check_secrets(call: Invocation, read: ReadSecret) -> None:
    """Raise what keeps a secret that the call names from being used, if anything does."""
    problem = secrets_problem(secrets_of(call), read)
    if problem is not None:
        raise problem


def secrets_problem(named: Iterable[VaultGet], read: ReadSecret) -> SwampError | None:
    """What keeps one of these secrets from being used, if anything does."""
    for reference in named:
        try:
            _value(reference, read)
        except SwampError as error:
            return type(error)(f"{reference}: {error.message}", hint=error.hint, code=error.code)
    return None


def resolve(call: Invocation, read: ReadSecret) -> Invocation:
    """The call as a machine runs it: with secrets instead of references, and with a list of them, to be redacted.

    Into a script they come as variables of its environment, elsewhere as they are. Raises `SwampError`.
    """
    named = secrets_of(call)
    if not named:
        return call
    values = {reference: _value(reference, read) for reference in named}
    arguments = {name: _filled(value, values) for name, value in call.arguments.items()}
    for argument in find_type(call.model_type).method(call.method).arguments:
        script = call.arguments.get(argument.name)
        if argument.variables and isinstance(script, str):
            arguments |= _script(argument.name, script, argument.variables, arguments.get(argument.variables), values)
    return Invocation(
        call.model_id,
        call.model_name,
        call.model_type,
        call.method,
        arguments,
        call.tags,
        secrets=tuple(dict.fromkeys(values.values())),
    )


def _script(name: str, script: str, into: str, declared: object, values: Mapping[VaultGet, str]) -> dict[str, object]:
    """The script and the map of its variables, by the names of the arguments."""
    environment = dict(declared) if isinstance(declared, Mapping) else {}
    variables: dict[VaultGet, str] = {}
    number = 0
    for reference in dict.fromkeys(references(script)):
        number += 1
        while f"{VARIABLE}{number}" in environment:
            number += 1
        variables[reference] = f"{VARIABLE}{number}"
        environment[variables[reference]] = values[reference]
    return {name: quoted(parse(script), variables.__getitem__), into: environment} if variables else {}


def _filled(value: object, values: Mapping[VaultGet, str]) -> object:
    if isinstance(value, str):
        return fill(value, values.__getitem__)
    if isinstance(value, Mapping):
        return {key: _filled(entry, values) for key, entry in value.items()}
    return value


def _value(reference: VaultGet, read: ReadSecret) -> str:
    value = read(reference.vault, reference.key)
    if "\0" in value:
        raise Invalid(
            f"the secret '{reference.key}' of vault '{reference.vault}' holds a NUL character, which no argument may",
            hint="encode it, for example with base64, and decode it in the step",
        )
    return value
