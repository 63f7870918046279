"""What kinds of models exist, and what their methods take and produce. Pure description: nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from swamp.errors import Invalid, NotFound
from swamp.models.argument import Argument, read_text
from swamp.names import did_you_mean, nearest


@dataclass(frozen=True)
class OutputSpec:
    """One thing that a method produces."""

    name: str
    data_type: str  #: `resource` (attributes that queries can see) or `file`
    content_type: str
    description: str


@dataclass(frozen=True)
class Method:
    name: str
    description: str
    arguments: tuple[Argument, ...]
    outputs: tuple[OutputSpec, ...]


@dataclass(frozen=True)
class ModelType:
    name: str
    version: str
    description: str
    methods: tuple[Method, ...]
    global_arguments: tuple[Argument, ...] = ()

    def method(self, name: str) -> Method:
        """The method called `name`. Raises `NotFound`, naming the nearest."""
        known = {method.name: method for method in self.methods}
        if name in known:
            return known[name]
        raise NotFound(
            f"type {self.name} has no method '{name}'{did_you_mean(name, known)}",
            hint=f"its methods: {', '.join(known)}",
            code="unknown_method",
        )

    def check(self, method: str, arguments: Mapping[str, object], *, complete: bool = True) -> dict[str, object]:
        """The arguments as the method takes them (numbers given for text have become text).

        Unless they are `complete`, required ones may be missing. Raises `Invalid` listing everything that is wrong
        with them, `NotFound` for an unknown method.
        """
        return self._checked(f"{self.name} {method}", self.method(method).arguments, arguments, complete=complete)

    def check_global(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """As `check`, for the arguments that belong to the model and not to one method."""
        return self._checked(f"{self.name}, global arguments", self.global_arguments, arguments, complete=True)

    def read(self, method: str, pairs: Iterable[str]) -> dict[str, object]:
        """Arguments out of a command line: `run=echo hi`, `timeout=500`, `env.HOME=/tmp`.

        Values take the kind of their argument; what is missing is not looked for. Raises `Invalid`, also for what is
        given twice, or `NotFound`.
        """
        known = {argument.name: argument for argument in self.method(method).arguments}
        result: dict[str, object] = {}
        for pair in pairs:
            path, equals, text = pair.partition("=")
            name, dot, entry = path.partition(".")
            if not equals:
                raise Invalid(f"'{pair}' gives no value", hint=f"write {pair}=<value>")
            if name not in known:
                raise Invalid(
                    f"{self.name} {method}: unknown argument '{name}'{did_you_mean(name, known)}",
                    hint=f"its arguments: {', '.join(known)}",
                )
            value = read_text(known[name], entry if dot else None, text)
            earlier = result.get(name)
            if isinstance(value, dict) and isinstance(earlier, dict) and earlier.keys().isdisjoint(value):
                value = {**earlier, **value}
            elif name in result:
                raise Invalid(f"'{path}' is given twice", hint="give it once")
            result[name] = value
        return result

    def _checked(
        self, what: str, known: Sequence[Argument], given: Mapping[str, object], *, complete: bool
    ) -> dict[str, object]:
        by_name = {argument.name: argument for argument in known}
        problems = []
        result: dict[str, object] = {}
        for name, value in given.items():
            if name not in by_name:
                guess = nearest(name, by_name)
                problems.append(f"unknown argument '{name}'" + (f" (did you mean '{guess}'?)" if guess else ""))
                continue
            try:
                result[name] = by_name[name].check(value)
            except ValueError as error:
                problems.append(f"'{name}' {error}")
        if complete:
            problems += [f"'{one.name}' is missing" for one in known if one.required and one.name not in given]
        if problems:
            raise Invalid(f"{what}: {', '.join(problems)}", hint=f"see: swamp model type describe {self.name}")
        return result


def find_type(name: str) -> ModelType:
    """The type called `name`. Raises `NotFound`, naming the nearest."""
    known = types()
    if name in known:
        return known[name]
    last_parts = {known_name.rpartition("/")[2]: known_name for known_name in known}
    guess = f"; did you mean '{last_parts[name]}'?" if name in last_parts else did_you_mean(name, known)
    raise NotFound(
        f"there is no model type '{name}'{guess}",
        hint="list them with: swamp model type search",
        code="unknown_model_type",
    )


@cache
def types() -> Mapping[str, ModelType]:
    """All types by name."""
    return {known.name: known for known in (_SHELL, _PROBE)}


_SHELL = ModelType(
    name="command/shell",
    version="2026.01.01.1",
    description="Runs a command with sh -c.",
    methods=(
        Method(
            name="execute",
            description="Run the command and keep what it printed.",
            arguments=(
                Argument("run", "string", True, "The command, as sh reads it.", minimum=1, variables="env"),
                Argument("workingDir", "string", False, "Where it runs; relative to the step's directory.", minimum=1),
                Argument("timeout", "integer", False, "Milliseconds after which it is ended.", minimum=1),
                Argument("env", "map", False, "Variables added to its environment."),
                Argument("ignoreExitCode", "boolean", False, "Succeed whatever its exit code is."),
            ),
            outputs=(
                OutputSpec(
                    "result",
                    "resource",
                    "application/json",
                    "stdout, stderr, exitCode, command, executedAt, durationMs; stored when the command fails too.",
                ),
                OutputSpec(
                    "log", "file", "text/plain", "The exact bytes of both streams, under [stdout] and [stderr]."
                ),
            ),
        ),
    ),
)

_PROBE = ModelType(
    name="swamp/probe",
    version="2026.01.01.1",
    description="Answers from inside the worker, without a process: to measure, and to check a fleet.",
    methods=(
        Method(
            name="echo",
            description="Give the message back.",
            arguments=(Argument("message", "string", True, "What to give back."),),
            outputs=(
                OutputSpec(
                    "result",
                    "resource",
                    "application/json",
                    "message, machine (its id; empty beside the engine), startedAt, answeredAt.",
                ),
            ),
        ),
    ),
)
