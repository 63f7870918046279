"""What each Redis user may do, as pure text: the rules of `ACL SETUSER` and of `user` lines in a configuration.

Commands inside a function are checked against the user that called it, so a worker's rules list what the function
library uses. `+client|setinfo` is not granted anywhere: servers before 7.2 refuse the whole rule set over it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from swamp.errors import Invalid

BELL = "swamp:bell"

ORCHESTRATOR_USER, MONITOR_USER, OPERATOR_USER = "swamp", "swamp-monitor", "swamp-operator"

_TARGET = re.compile(r"(?=.{1,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_MACHINE = re.compile(r"[0-9a-f]{8,64}")
_HASH = re.compile(r"[0-9a-f]{64}")

_WORKER_COMMANDS = (
    "+fcall +blmove +xread +publish +ping"  # what a worker sends
    " +hget +hmget +hset +lmove +lrem +lrange +xadd"  # what the functions do for it
)


#: Of those, what it takes to say what became of steps that were begun.
_DELIVERING_COMMANDS = "+fcall +xread +publish +ping +hset +lrem +xadd"


@dataclass(frozen=True)
class AclUser:
    """A Redis user and the rules that make it."""

    name: str
    rules: tuple[str, ...]

    @property
    def config_line(self) -> str:
        """The line of a configuration file that creates the user."""
        return " ".join(("user", self.name, *self.rules))

    @property
    def set_user(self) -> tuple[str, ...]:
        """The words of the command that creates the user, or gives an existing one exactly these rules."""
        return ("ACL", "SETUSER", self.name, *self.rules)


def password_hash(password: str) -> str:
    """The only form in which a Redis password is stored or sent to the server as a rule: SHA-256, 64 hex digits."""
    return sha256(password.encode()).hexdigest()


def worker_user(target: str, machine: str, password_hash: str, *, delivering: bool = False) -> AclUser:
    """The user of one machine: see `worker_rules` and `delivering_rules`."""
    rules = delivering_rules(machine, password_hash) if delivering else worker_rules(target, machine, password_hash)
    return AclUser(worker_name(machine), tuple(rules))


def worker_name(machine: str) -> str:
    """What the user of a machine is called."""
    return f"swamp-m-{machine}"


def worker_rules(target: str, machine: str, password_hash: str) -> list[str]:
    """One machine: its target's queue, that target's jobs (to read), its own keys and the bell. Nothing shared.

    Raises `Invalid` for a target or machine id that could stand for more than itself in a pattern.
    """
    if not _TARGET.fullmatch(target):
        raise Invalid(f"'{target}' cannot name a target")
    return [
        *_of_machine(machine, password_hash),
        f"%RW~rq:queue:{target}",
        f"%R~rq:job:{target}--*",
        *_words(_WORKER_COMMANDS),
    ]


def delivering_rules(machine: str, password_hash: str) -> list[str]:
    """One machine whose token's time is over: its own keys and the bell, no queue and no job. It has no claim left, and
    no command by which to come to one."""
    return [*_of_machine(machine, password_hash), *_words(_DELIVERING_COMMANDS)]


def monitor_rules(password_hash: str) -> list[str]:
    """Stock RQ tools that look: everything of RQ's to read.

    `@connection` alone would grant CLIENT KILL and CLIENT PAUSE. `rq info` cleans the two registries that it counts,
    in a transaction, so it gets the commands for that, on those keys.
    """
    return [
        *_fresh(password_hash),
        "%R~rq:*",
        "%W~rq:finished:*",
        "%W~rq:failed:*",
        *_words("+@read +@connection -@admin -@dangerous +info +multi +exec +discard +zremrangebyscore"),
    ]


def operator_rules(password_hash: str) -> list[str]:
    """Stock RQ tools with their buttons (requeue, cancel, delete, empty): everything on RQ's keys, nothing beside."""
    return [
        *_fresh(password_hash),
        "~rq:*",
        "&rq:*",
        *_words("+@all -@admin -@dangerous -@scripting +info +eval +evalsha +script|load +script|exists"),
    ]


def orchestrator_rules(password_hash: str) -> list[str]:
    """The orchestrator itself: everything."""
    return [*_fresh(password_hash), "~*", "&*", "+@all"]


def _of_machine(machine: str, password_hash: str) -> list[str]:
    if not _MACHINE.fullmatch(machine):
        raise Invalid(f"'{machine}' is not a machine id")
    return [*_fresh(password_hash), f"%RW~swamp:m:{machine}:*", f"&{BELL}"]


def _fresh(password_hash: str) -> Sequence[str]:
    if not _HASH.fullmatch(password_hash):
        raise Invalid("a password hash is 64 hex digits")
    return ("reset", "on", f"#{password_hash}")


def _words(rules: str) -> list[str]:
    return rules.split()
