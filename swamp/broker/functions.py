"""The function library on the server, called: each function is one round trip however many items it carries.

`functions.lua` says what each does. What a call returns is taken apart here, so that nobody else knows its layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol, cast

from swamp.broker import keyspace
from swamp.packer import Packer
from swamp.values import value

if TYPE_CHECKING:
    from swamp.broker.client import Client


class Speaks(Protocol):
    """A client of either library."""

    def execute_command(self, *words: Any) -> Any:  # noqa: ANN401 - what a server may answer
        ...


#: An item's status from the server: 1 done, 0 not done, bytes an error text.
Status = int | bytes


def load_library(client: Speaks) -> None:
    """Have the library loaded as it is here. Only the orchestrator may. A server that has no memory left loads nothing,
    so what is there already is left alone."""
    source = files("swamp.broker").joinpath("functions.lua").read_bytes()
    there = client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", keyspace.LIBRARY, "WITHCODE")
    if not any(source in library for library in cast("list[list[object]]", there)):
        client.execute_command("FUNCTION", "LOAD", "REPLACE", source)


def prepare(client: Speaks, owner: str, repository: str, marker: str, *, own: bool) -> str | None:
    """Write down who uses the server, and the marker by which it is known; the repository of another owner, if it has
    one and is not our `own`."""
    request = {"owner": owner, "repository": repository, "marker": marker, "own": int(own)}
    reply = _call(client, "prepare", request)
    return None if reply == 1 else cast("bytes", reply).decode(errors="replace")


def _call(client: Speaks, name: str, request: object) -> object:
    return client.execute_command("FCALL", f"{keyspace.LIBRARY}_{name}", 0, _packed(request))


# The server's cmsgpack knows msgpack's first version only: no type of its own for bytes.
_PACKER = Packer(use_bin_type=False)


def _packed(request: object) -> bytes:
    return _PACKER.pack(request)


@dataclass(slots=True)
class Exchange:
    """What a worker wants done in one round trip."""

    finish: list[tuple[str, bytes, bytes]] = field(default_factory=list)  #: (dispatch, sealed result, sealed event)
    begin: list[tuple[str, bytes]] = field(default_factory=list)  #: (dispatch, sealed "started")
    say: list[bytes] = field(default_factory=list)  #: sealed events
    claim: int = 0
    release: list[str] = field(default_factory=list)  #: claims given up without beginning
    newest: bool = False  #: the sealed dispatch of the claim made last is wanted
    ring: bool = True  #: call the orchestrator; for what has time, its sweep is soon enough


@value
class Exchanged:
    """Statuses in the order of the request, and the claimed work."""

    finish: list[Status]
    begin: list[Status]  #: up to the first that is not 1; what comes behind it was not tried
    say: list[Status]
    work: list[tuple[str, bytes]]  #: (dispatch, sealed dispatch; empty where the job is gone)


def exchange(client: Speaks, machine: str, target: str, request: Exchange) -> Exchanged:
    return _exchanged(_call(client, "exchange", _request(machine, target, request)))


def wait_and_claim(client: Client, machine: str, target: str, seconds: int, claim: int) -> Exchanged | None:
    """Wait for a dispatch, and have it and up to `claim` - 1 more claimed and read; None if none came in that time.

    One round trip: what follows a blocking command on a connection is done as soon as that has been answered.
    """
    request = Exchange(claim=claim - 1, newest=True, ring=False)
    move = ("BLMOVE", keyspace.queue(target), keyspace.claimed(machine), "LEFT", "RIGHT", seconds)
    read = ("FCALL", f"{keyspace.LIBRARY}_exchange", 0, _packed(_request(machine, target, request)))
    moved, reply = client.execute_together([move, read])
    return None if moved is None else _exchanged(reply)


def _request(machine: str, target: str, request: Exchange) -> dict[str, object]:
    return {
        "machine": machine,
        "target": target,
        "finish": request.finish,
        "begin": request.begin,
        "say": request.say,
        "claim": request.claim,
        "release": request.release,
        "newest": int(request.newest),
        "ring": int(request.ring),
    }


def _exchanged(reply: object) -> Exchanged:
    finish, begin, say, work = cast("tuple[list[Status], list[Status], list[Status], list[bytes]]", reply)
    pairs = [(work[i].decode(), work[i + 1]) for i in range(0, len(work), 2)]
    return Exchanged(finish, begin, say, pairs)


@value
class Message:
    """A message from a machine, as it lies in Redis: nothing in it is believed before it was opened."""

    stream_id: str
    sealed: bytes
    dispatch: str  #: whose result comes with it; "" without
    result: bytes  #: sealed; empty without, or where it is gone


@value
class Collected:
    """What a machine has said that was not freed yet, in order, and what it has claimed."""

    machine: str
    claimed: list[str]
    messages: list[Message]


def collect(
    client: Speaks, machines: Sequence[str], count: int, size: int, marker: str, next_marker: str = ""
) -> tuple[list[Collected], bool]:
    """Every machine that has said something that was not freed yet, and whether there may be more than that: at most
    `count` messages of each machine are read, and not many more than `size` bytes of all together.

    Raises ``ResponseError`` (RESET …) if the server does not hold our `marker`: it was emptied or replaced. With a
    `next_marker` it holds that one from now on.
    """
    request = {"machines": list(machines), "count": count, "bytes": size, "marker": marker, "next": next_marker}
    reply = cast("list[list[object]]", _call(client, "collect", request))
    found, total, more = [], 0, False
    for entry in reply:
        machine = cast("bytes", entry[0]).decode()
        claimed = [dispatch.decode() for dispatch in cast("list[bytes]", entry[1])]
        rows = cast("list[tuple[bytes, bytes, bytes, bytes]]", entry[2:])
        messages = [Message(i.decode(), m, d.decode("ascii", "replace"), r) for i, m, d, r in rows]
        found.append(Collected(machine, claimed, messages))
        more = more or len(messages) == count
        total += sum(len(message.sealed) + len(message.result) for message in messages)
    return found, more or total > size


def tell(client: Speaks, messages: Sequence[tuple[str, bytes]]) -> None:
    """(machine, sealed message down), in order."""
    _call(client, "tell", {"messages": list(messages)})


def free(client: Speaks, machines: Iterable[tuple[str, str, Sequence[str]]]) -> None:
    """(machine, newest stream id applied or "", dispatches whose results are on disk)."""
    _call(client, "free", {"machines": list(machines)})


@value
class Job:
    """A dispatch on its way into a queue."""

    dispatch: str
    call: bytes  #: RQ's call tuple
    description: str
    sealed: bytes


def push(
    client: Speaks,
    target: str,
    jobs: Sequence[Job],
    now: str,
    *,
    front: bool = False,
    only_shown: bool = False,
) -> None:
    """`only_shown`: not queued, but written for RQ's tools."""
    rows = [(job.dispatch, job.call, job.description, job.sealed) for job in jobs]
    request = {"target": target, "front": int(front), "only_shown": int(only_shown), "now": now, "jobs": rows}
    _call(client, "push", request)


@value
class Seen:
    """What RQ's tools see of a target."""

    target: str
    queued: list[str]
    claimed: list[str]  #: by its machines
    states: list[str]  #: of what runs, in the order in which it was asked for; see `functions.lua`


def look(
    client: Speaks, targets: Sequence[tuple[str, Sequence[str], Sequence[tuple[str, str]]]]
) -> tuple[set[str], list[Seen]]:
    """For (target, machines, running (dispatch, execution)): what tools see, and the keys of all queues there are."""
    queues, *found = cast("list[Any]", _call(client, "look", {"targets": list(targets)}))
    seen = [Seen(target.decode(), *(_texts(part) for part in parts)) for target, *parts in found]
    return set(_texts(queues)), seen


def forget_target(client: Speaks, target: str) -> None:
    """Delete what RQ's tools know of a target."""
    _call(client, "forget_target", {"target": target})


def _texts(values: Iterable[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]


def take_back(client: Speaks, machine: str, only: Sequence[str] | None = None) -> list[str]:
    """The dispatches that the machine had claimed, and has not any more. Who has begun keeps what was begun."""
    request: dict[str, object] = {"machine": machine}
    if only is not None:
        request["only"] = list(only)
    return [dispatch.decode() for dispatch in cast("list[bytes]", _call(client, "take_back", request))]


def withdraw(client: Speaks, target: str, dispatches: Sequence[str], machines: Sequence[str]) -> None:
    """Take dispatches out of the target's queue, or out of the claims of whoever of these machines has claimed them."""
    _call(client, "withdraw", {"target": target, "dispatches": list(dispatches), "machines": list(machines)})


def mirror(client: Speaks, records: Sequence[tuple[object, ...]], now: str, at: float) -> None:
    """RQ's bookkeeping; the records are described in `functions.lua`."""
    _call(client, "mirror", {"now": now, "at": at, "records": records})
