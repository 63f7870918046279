"""The orchestrator's side of Redis: what it sends and reads, in batches. Knows nothing of runs.

Any method may raise `RedisTrouble`: the caller then takes Redis for away, and `connect` makes everything anew.
"""

from __future__ import annotations

import pickle
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from swamp.broker import functions, keyspace
from swamp.broker.acl import AclUser, worker_name
from swamp.broker.client import Client, NoConnection, RedisTrouble, Refused
from swamp.broker.connection import check_server, connect, facts_of
from swamp.broker.location import Location
from swamp.broker.posting import Letterbox, Posting
from swamp.clock import iso_now
from swamp.errors import Invalid

#: Messages of one machine read in one round trip.
BATCH = 2000
BATCH_BYTES = 16 << 20  #: of all machines together
#: Seconds without a sound, though asked for one, after which the connection that listens to the bell is made anew.
DEAF = 15.0


@dataclass(frozen=True)
class RedisAddress:
    """How the orchestrator reaches Redis at present, and how it tells workers to."""

    location: Location
    worker_url: str  #: without user and password
    ca_certificate: Path | None = None  #: for `rediss://`; None: the system's
    socket: str | None = None  #: of an embedded server: nobody else can have that

    @property
    def own(self) -> bool:
        return self.socket is not None

    def open(self) -> Client:
        """Raises `RedisTrouble`."""
        return connect(self.location, self.ca_certificate)


@dataclass(frozen=True)
class Owner:
    """Who uses a Redis: users, functions and RQ's keys cannot be shared by two repositories."""

    id: str  #: made of the orchestrator's key: a clone of the repository has the same files but another key
    repository: str  #: for people
    tools: tuple[AclUser, ...] = ()  #: the users for monitoring tools
    shared: bool = False  #: there is one user, whom everybody is

    def check(self, client: Client, address: RedisAddress) -> None:
        """Raises `Invalid` when Swamp cannot work on this server, or it is another's. Changes nothing."""
        check_server(client, address.location.url)
        fields = client.execute_command("HMGET", keyspace.REPO, "owner", "repository")
        owner, repository = cast("list[bytes | None]", fields)
        if owner not in (None, self.id.encode()) and not address.own:
            raise self.foreign(address, (repository or b"").decode(errors="replace"))

    def prepare(self, client: Client) -> None:
        """What everybody who uses the server needs, whoever they are. Users are not replicated: a server that was a
        replica until now has none."""
        functions.load_library(client)
        for user in self.tools:
            client.execute_command(*user.set_user)

    def foreign(self, address: RedisAddress, repository: str) -> Invalid:
        return Invalid(
            f"Redis at {address.location.url} belongs to another repository: {repository or 'its place is not known'}",
            hint="give each repository a server of its own; if that one is gone for good, free the server "
            f"with: redis-cli DEL {keyspace.REPO}",
            code="foreign_redis",
        )


def call_tuple(dispatch: str) -> bytes:
    """RQ's `data` field: what its tools show as the call. A pickle, because that is what they read with no option; made
    of two fixed words and the dispatch id, by the orchestrator alone, and never read by Swamp."""
    return pickle.dumps(("swamp.step", None, (dispatch,), {}), protocol=2)


class Transport:
    """One connection, used by the core thread only.

    What nobody waits for (`free`, `send_down`, `push`, `mirror`) is posted: it goes with the next command, before it,
    or with `flush`. If it fails, that fails, and the connection is of no use any more.
    """

    def __init__(
        self,
        owner: Owner,
        locate: Callable[[], RedisAddress],
        connected: Callable[[RedisAddress], None] = lambda address: None,
    ) -> None:
        """`locate` tells where Redis is now: an embedded server that has ended is started again and moves, and so does
        the master behind Sentinels. It may take a second, and raise a `SwampError` or `RedisTrouble`. `connected`
        hears of every connection."""
        self._owner = owner
        self._locate = locate
        self._connected = connected
        self._coming: Future[tuple[RedisAddress, Client]] | None = None  # a connection in the making
        self._client: Client | None = None
        self._line: Posting | None = None  # through the client
        self._address: RedisAddress | None = None
        self._marker = ""  # by which the server is known to be the one that was prepared

    @property
    def address(self) -> RedisAddress:
        """Where the connection goes. Raises `NoConnection` when there is none."""
        address = self._address
        if address is None:
            raise NoConnection("not connected")
        return address

    @property
    def up(self) -> bool:
        return self._client is not None

    @property
    def holds(self) -> bool:
        """Whether something is posted and not sent."""
        return self._line is not None and self._line.holds

    def flush(self) -> None:
        """Have done what was posted."""
        self._asked.flush()

    @property
    def _asked(self) -> Posting:
        """For whatever is to be done now, or whose answer is wanted."""
        if self._line is None:
            raise NoConnection("not connected")
        return self._line

    @property
    def _posted(self) -> Letterbox:
        """For functions whose answer nobody waits for."""
        return Letterbox(self._asked)

    def seek(self, found: Callable[[], None]) -> bool:
        """Whether there is a server that answers, so that `connect` may go to it. It is looked for in a thread of its
        own, because one that is silent takes seconds; `found` is called from there when it is worth asking again.

        May raise a `SwampError` too: an embedded server cannot be started.
        """
        if self._coming is None:
            coming: Future[tuple[RedisAddress, Client]] = Future()
            self._coming = coming
            coming.add_done_callback(lambda _: found())
            threading.Thread(target=self._find, args=(coming,), name="find redis", daemon=True).start()
        if not self._coming.done():
            return False
        if self._coming.exception() is not None:
            failed, self._coming = self._coming, None
            failed.result()
        return True

    def _find(self, coming: Future[tuple[RedisAddress, Client]]) -> None:
        try:
            address = self._locate()
            client = address.open()
            client.execute_command("PING")
        except BaseException as error:
            coming.set_exception(error)
        else:
            coming.set_result((address, client))

    def connect(self, users: Iterable[AclUser]) -> None:
        """Take the server that `seek` found, and make sure that the library and the users of these machines are there,
        and no others.

        May raise a `SwampError` too: Swamp cannot work on this one.
        """
        self.disconnect()
        if self._coming is None:
            raise NoConnection("not looked for")
        coming, self._coming = self._coming, None
        address, client = coming.result()
        try:
            self._owner.check(client, address)
            self._owner.prepare(client)
            self._marker = secrets.token_hex(8)
            other = functions.prepare(client, self._owner.id, self._owner.repository, self._marker, own=address.own)
            if other is not None:
                raise self._owner.foreign(address, other)
            if not self._owner.shared:
                _make_users(client, users)
        except BaseException:
            client.close()
            raise
        self._client, self._line, self._address = client, Posting(client), address
        self._connected(address)

    def echoes(self) -> bool:
        """Whether what is written comes back: False where the server takes nothing, for want of memory for one."""
        word = secrets.token_bytes(8)
        self.flush()
        try:
            self._asked.execute_command("SET", keyspace.ECHO, word, "EX", 60)
            return bool(self._asked.execute_command("GET", keyspace.ECHO) == word)
        except Refused:
            return False

    def disconnect(self) -> None:
        client, self._client, self._line, self._address = self._client, None, None, None
        if client is not None:
            client.close()

    def login(self, machine: str, password: str) -> tuple[str, str]:
        """User and password with which a machine is to reach Redis. Raises `NoConnection` when nobody can."""
        if not self._owner.shared:
            return worker_name(machine), password
        location = self.address.location
        return location.username or "default", location.password or ""

    def set_user(self, user: AclUser) -> None:
        if not self._owner.shared:
            self._asked.execute_command(*user.set_user)

    def delete_user(self, name: str) -> None:
        """Also cuts the connections of that user."""
        if not self._owner.shared:
            self._asked.execute_command("ACL", "DELUSER", name)

    def cut(self, name: str) -> None:
        """Cut the connections of a user: what one of them waits for it would be given by the rights it had before."""
        if not self._owner.shared:
            self._asked.execute_command("CLIENT", "KILL", "USER", name)

    def clear_queues(self, targets: Collection[str]) -> None:
        """Nothing can be claimed after this until something is pushed. RQ's tools forget what they believe to run."""
        keys = [keyspace.queue(target) for target in targets]
        keys += [keyspace.registry("wip", target) for target in targets]
        if keys:
            self._asked.execute_command("DEL", *keys)

    def queued(self, target: str) -> list[str]:
        """The dispatches that lie in the target's queue."""
        found = cast("list[bytes]", self._asked.execute_command("LRANGE", keyspace.queue(target), 0, -1))
        return [dispatch.decode() for dispatch in found]

    def take_back(self, machine: str, only: Sequence[str] | None = None) -> list[str]:
        return functions.take_back(self._asked, machine, only)

    def withdraw(self, target: str, dispatches: Sequence[str], machines: Sequence[str]) -> None:
        """Take dispatches out of the queue, or out of the claims of whoever of these has claimed them."""
        functions.withdraw(self._asked, target, dispatches, machines)

    def forget_job(self, dispatch: str) -> None:
        self._asked.execute_command("DEL", keyspace.job(dispatch))

    def push(
        self, target: str, jobs: Sequence[functions.Job], *, front: bool = False, only_shown: bool = False
    ) -> None:
        functions.push(self._posted, target, jobs, iso_now(), front=front, only_shown=only_shown)

    def look(
        self, targets: Sequence[tuple[str, Sequence[str], Sequence[tuple[str, str]]]]
    ) -> tuple[set[str], list[functions.Seen]]:
        """What RQ's tools see of these targets: (target, machines, what runs there (dispatch, execution))."""
        return functions.look(self._asked, targets)

    def job_states(self, dispatches: Sequence[str]) -> list[str]:
        """As RQ's tools have them; empty where the job is gone."""
        states = self._asked.execute_together([("HGET", keyspace.job(dispatch), "status") for dispatch in dispatches])
        return [(state or b"").decode("utf-8", "replace") for state in states]

    def unqueue(self, target: str, dispatch: str) -> None:
        """Take out of a queue what does not belong there."""
        self._asked.execute_command("LREM", keyspace.queue(target), 0, dispatch)

    def forget_target(self, target: str) -> None:
        functions.forget_target(self._asked, target)

    def collect(self, machines: Sequence[str], *, renew: bool) -> tuple[list[functions.Collected], bool]:
        """What machines have said, and whether there may be more. With `renew` an older copy of this moment's server
        can be told apart from now on."""
        next_marker = secrets.token_hex(8) if renew else ""
        found = functions.collect(self._asked, machines, BATCH, BATCH_BYTES, self._marker, next_marker)
        self._marker = next_marker or self._marker
        return found

    def memory(self) -> float:
        """How much of the memory that it may use is used: 0.0 without a limit, more than 1.0 where it was lowered."""
        facts = facts_of(self._asked.execute_command("INFO", "memory"))
        used = float(facts["used_memory"]) - float(facts.get("mem_not_counted_for_evict", 0))
        limit = float(facts.get("maxmemory", 0))
        return used / limit if limit else 0.0

    def free(self, machines: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        functions.free(self._posted, machines)

    def forget_machine(self, machine: str) -> None:
        """Everything that a machine that may not come back left behind."""
        keys = (keyspace.claimed(machine), keyspace.up(machine), keyspace.down(machine), keyspace.results(machine))
        self._asked.execute_command("DEL", *keys)

    def send_down(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """(machine, sealed message), in order."""
        functions.tell(self._posted, list(messages))

    def clear_down(self, machine: str) -> None:
        """Messages to a machine that joins anew are void."""
        self._asked.execute_command("DEL", keyspace.down(machine))

    def mirror(self, records: Sequence[tuple[object, ...]]) -> None:
        functions.mirror(self._posted, records, iso_now(), time.time())


def _make_users(client: Client, users: Iterable[AclUser]) -> None:
    """These machines' users, and no other machine's."""
    wanted = {user.name: user for user in users}
    for name in client.execute_command("ACL", "USERS"):
        if name.startswith(b"swamp-m-") and name.decode() not in wanted:
            client.execute_command("ACL", "DELUSER", name)
    for user in wanted.values():
        client.execute_command(*user.set_user)


class BellListener:
    """Hears the bell that workers ring when something happened to a step, in a thread of its own, on the server that
    the transport is connected to.

    The bell only makes things quick. What was rung for while nobody listened is found by the sweep.
    """

    def __init__(self, transport: Transport, rung: Callable[[], None]) -> None:
        self._transport = transport
        self._rung = rung
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="bell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                address = self._transport.address
                with closing(address.open()) as client:
                    client.execute_command("SUBSCRIBE", keyspace.BELL)
                    heard = asked = time.monotonic()
                    # A new connection of the transport has a new address, be it the same place.
                    while not self._stop.is_set() and self._transport.address is address:
                        now = time.monotonic()
                        said = client.hear(1.0)
                        if said is not None:
                            heard = time.monotonic()
                            if isinstance(said, list) and said[:1] == [b"message"]:
                                self._rung()
                        elif now - heard > DEAF:
                            break
                        elif now - asked > DEAF / 3:
                            client.say("PING")
                            asked = now
            except RedisTrouble:
                self._stop.wait(0.5)
