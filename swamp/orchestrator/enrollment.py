"""Joining, at the orchestrator's end: the handshake on a WebSocket, the binding, and the session that follows.

The token's secret is the handshake's pre-shared key, so whoever gets as far as an admission has proved to know it; the
decision itself is `admission.decide`, made and recorded in one transaction of the core.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import sqlite3
from contextlib import suppress
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from swamp.addresses import is_loopback
from swamp.broker.acl import password_hash
from swamp.broker.client import RedisTrouble
from swamp.clock import iso, iso_now, utc_now
from swamp.data.blobs import put_blobs
from swamp.errors import SwampError
from swamp.orchestrator import admission
from swamp.orchestrator.core import Core
from swamp.orchestrator.leases import HEARTBEAT
from swamp.orchestrator.members import Member, Process
from swamp.orchestrator.slowness import STRANGERS, Slowness
from swamp.orchestrator.strangers import Strangers
from swamp.orchestrator.tunnel import Passage, Tunnels, frame
from swamp.tokens import secrets as token_secrets
from swamp.tokens import store as tokens
from swamp.tokens.token import Token, is_live
from swamp.vaults.catalog import open_vault
from swamp.wire import messages
from swamp.wire.codec import Malformed
from swamp.wire.envelope import machine_id_of
from swamp.wire.messages import (
    BlobPart,
    BlobStored,
    Farewell,
    Hello,
    Opening,
    Refusal,
    SessionMessage,
    Tunnel,
    Welcome,
)
from swamp.wire.noise import HandshakeRefused, MessageRefused, Responder

log = logging.getLogger("swamp.orchestrator")

HANDSHAKE_SECONDS = 15.0
MOST_STRANGERS = 256  #: handshakes under way at once
PARTING = 0.25  #: seconds for the last words to a worker that has to go

_UNKNOWN = Refusal("unknown_token", "the orchestrator does not know this token")


class WorkerSession:
    """One worker's connection. `send` and `close` may be called from any thread."""

    def __init__(self, websocket: WebSocket, noise: Responder) -> None:
        self.passage = Passage(noise.peer_static)
        self._websocket = websocket
        self._noise = noise
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[SessionMessage | None] = asyncio.Queue()
        self.over = asyncio.Event()  #: nothing is taken from the worker any more

    def send(self, message: SessionMessage) -> None:
        self._put(message)

    def close(self) -> None:
        """After everything sent before. Its connections to Redis are cut at once."""
        self._put(None)

    def _put(self, message: SessionMessage | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: the orchestrator is going down
            if message is None:
                self._loop.call_soon_threadsafe(self.passage.end)
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, message)
            if message is None:
                self._loop.call_soon_threadsafe(self.over.set)

    async def deliver(self) -> None:
        """Send what is put; returns after a `close`."""
        while (message := await self._outbox.get()) is not None:
            await self._websocket.send_bytes(self._noise.encrypt(messages.pack_session(message)))
        await self._websocket.close()

    @property
    def address(self) -> str:
        """Where the worker's end of the connection is."""
        return self._websocket.client.host if self._websocket.client is not None else ""

    async def receive(self) -> SessionMessage:
        return messages.unpack_session(self._noise.decrypt(await _binary(self._websocket)))


@dataclass(frozen=True, slots=True)
class _Met:
    """Who has shaken hands: it knows a secret of the token, and owns the key that it showed."""

    websocket: WebSocket
    noise: Responder
    said: Hello | Tunnel
    token: str
    superseded: bool  #: the secret is one that the token had before


@dataclass(frozen=True, slots=True)
class _Joined:
    member: Member
    welcome: Welcome
    new_binding: bool


class Enrollment:
    """Handles the WebSocket of one worker after the other."""

    def __init__(self, core: Core, slowness: Slowness) -> None:
        self._core = core
        self._slowness = slowness
        self._strangers = Strangers(MOST_STRANGERS)
        self._tunnels = Tunnels(lambda: core.transport.address)

    async def serve(self, websocket: WebSocket) -> None:
        """From the first frame to the end of the session."""
        await websocket.accept()
        with suppress(WebSocketDisconnect, Malformed, HandshakeRefused, MessageRefused):
            met = await self._meet(websocket)
            if met is not None:
                websocket.state.admitted()
                if isinstance(met.said, Hello):
                    await self._session(met, met.said)
                    return
                await self._tunnels.serve(websocket, met.noise, met.said.ticket, met.noise.peer_static)
        with suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close()

    async def _meet(self, websocket: WebSocket) -> _Met | None:
        """None for who takes too long, or has to make room."""
        shaking = asyncio.create_task(self._handshake(websocket))
        self._strangers.come(shaking, shaking.cancel)
        try:
            await asyncio.wait({shaking}, timeout=HANDSHAKE_SECONDS)
            return shaking.result() if shaking.done() and not shaking.cancelled() else None
        finally:
            shaking.cancel()
            self._strangers.leave(shaking)

    async def _handshake(self, websocket: WebSocket) -> _Met | None:
        opening = messages.unpack_opening(await _binary(websocket))
        if opening.protocol != messages.PROTOCOL:
            await self._refuse(websocket, opening.token, Refusal("protocol", _other_protocol(opening.protocol)))
            return None
        begun = await asyncio.to_thread(self._begin, opening)
        if begun is None:
            if await self._slowness.failed(await asyncio.to_thread(self._known, opening.token)):
                await self._refuse(websocket, opening.token, _UNKNOWN)
            return None
        responder, superseded = begun
        await websocket.send_bytes(messages.pack_reply(responder.write()))
        said = messages.unpack_session(responder.read(await _binary(websocket)))
        if not isinstance(said, Hello | Tunnel):
            raise Malformed("the handshake does not end with what the machine wants")
        return _Met(websocket, responder, said, opening.token, superseded)

    def _known(self, name: str) -> str:
        """The token's name, if there is one of that name."""
        with self._core.store.read() as tx:
            return STRANGERS if tokens.find(tx, name) is None else f"worker token {name}"

    def _secrets(self, name: str) -> list[bytes]:
        """The secrets that the token of that name has and had, whatever its state: a refusal that says more is then
        said inside the session, where only the orchestrator can say it."""
        with self._core.store.read() as tx:
            token = tokens.find(tx, name)
        if token is None:
            return []
        try:
            return token_secrets.known(open_vault(self._core.repo, token.vault), token)
        except SwampError as error:
            log.error("the secret of token %s cannot be read from vault %s: %s", name, token.vault, error.message)
            return []

    def _begin(self, opening: Opening) -> tuple[Responder, bool] | None:
        """The handshake, begun with whichever of the secrets the machine knows, and whether that is an old one."""
        for position, secret in enumerate(self._secrets(opening.token)):
            noise = Responder(self._core.keys.static, secret, messages.prologue(opening.token))
            try:
                noise.read(opening.noise)
            except HandshakeRefused:
                continue
            return noise, position > 0
        return None

    async def _refuse(self, websocket: WebSocket, name: str, refusal: Refusal) -> None:
        self._core.tally.enrollments[refusal.code] += 1
        log.warning("a worker was refused (token %s): %s", name[:63], refusal.message)
        await websocket.send_bytes(messages.pack_clear_refusal(refusal))

    # ------------------------------------------------------------------ the session

    async def _session(self, met: _Met, hello: Hello) -> None:
        session = WorkerSession(met.websocket, met.noise)
        outcome = await self._join(met, session, hello)
        deliver = asyncio.create_task(session.deliver())
        try:
            if isinstance(outcome, Refusal):
                self._core.tally.enrollments[outcome.code] += 1
                level = logging.INFO if outcome.code == "try_later" else logging.WARNING
                machine = machine_id_of(met.noise.peer_static)
                text = "machine %s was refused (token %s): %s"
                log.log(
                    level, text, machine, met.token, outcome.message, extra={"machine": machine, "target": met.token}
                )
                session.send(outcome)
                session.close()
                await deliver
                return
            self._core.tally.enrollments["new" if outcome.new_binding else "again"] += 1
            self._tunnels.open(session.passage)
            session.send(outcome.welcome)
            member = outcome.member
            log.info(
                "worker %s connected (%smachine %s, %s, %d slots)",
                member.worker,
                "new " if outcome.new_binding else "",
                member.machine,
                hello.platform,
                hello.slots,
                extra=member.about,
            )
            farewell = False
            try:
                farewell = await self._attend(session, member, deliver)
            finally:
                self._core.ask(lambda tx: self._core.membership.left(tx, member, session, farewell=farewell))
        finally:
            self._tunnels.close(session.passage)
            deliver.cancel()

    async def _join(self, met: _Met, session: WorkerSession, hello: Hello) -> _Joined | Refusal:
        core, public, name = self._core, met.noise.peer_static, met.token
        machine_id = machine_id_of(public)
        password = secrets.token_hex(32)

        def inside(tx: sqlite3.Connection) -> _Joined | Refusal:
            now = utc_now()
            token = tokens.find(tx, name)
            bound = tokens.bindings(tx, name)
            elsewhere = tokens.elsewhere(tx, machine_id, name)
            decision = admission.decide(
                token, bound, machine_id, public, now, elsewhere=elsewhere, superseded=met.superseded
            )
            if isinstance(decision, admission.Refuse):
                tokens.note_refused(tx, name, machine_id, decision.code, hello.host, session.address, now)
                return Refusal(decision.code, decision.message)
            if hello.protocol != messages.PROTOCOL:
                return Refusal("protocol", _other_protocol(hello.protocol))
            if not core.transport.up:
                return Refusal("try_later", "the orchestrator has no connection to Redis")
            known = core.members.get(machine_id)
            if known is not None and hello.epoch < known.epoch:
                # Before anything else is written: the worker that is there keeps its place.
                tokens.note_refused(tx, name, machine_id, "already_bound", hello.host, session.address, now)
                return Refusal(
                    "already_bound",
                    f"machine {machine_id} has joined from a newer start; its cache directory may have been copied",
                )
            if decision.new_binding:
                tokens.bind(tx, machine_id, public, name, decision.worker_name, now)
            digest = password_hash(password)
            tokens.set_redis_password(tx, machine_id, digest)
            tokens.note_sightings(tx, [tokens.Sighting(machine_id, now, hello.platform, hello.slots)])
            if token is not None and is_live(token, now):
                tokens.set_grace(tx, machine_id, hello.grace)
            machine = tokens.machine(tx, machine_id)
            if machine is None or token is None:
                raise SwampError(f"machine {machine_id} was bound and is not on record")
            member = core.membership.add(machine, digest, token, now)
            if (member.epoch, member.number) < (hello.epoch, hello.acknowledged) and hello.acknowledged:
                core.membership.catch_up(tx, member, hello.epoch, hello.acknowledged)
            member.platform, member.slots = hello.platform, hello.slots
            member.process = Process(hello.host, session.address, hello.pid, hello.version, hello.python)
            return _Joined(member, self._welcome(member, token, hello, password, session), decision.new_binding)

        def after(outcome: _Joined | Refusal) -> _Joined | Refusal:
            if isinstance(outcome, _Joined):
                try:
                    core.membership.joined(outcome.member, session)
                except RedisTrouble:
                    return Refusal("try_later", "the orchestrator has no connection to Redis")
            return outcome

        try:
            return await asyncio.wrap_future(core.ask(inside, after))
        except SwampError as error:
            log.error("a worker could not join: %s", error.message)
            return Refusal("try_later", "the orchestrator cannot record the join now")

    def _welcome(self, member: Member, token: Token, hello: Hello, password: str, session: WorkerSession) -> Welcome:
        core = self._core
        redis_at = core.transport.address
        user, password = core.transport.login(member.machine, password)
        # A worker that came by way of this machine may be elsewhere all the same: it is told of both ways.
        near = not redis_at.own or is_loopback(session.address)
        return Welcome(
            worker=member.worker,
            target=token.name,
            boot=core.boot,
            clock=iso_now(),
            incarnation=core.dispatcher.incarnation,
            applied=member.number if member.epoch == hello.epoch else 0,
            said=core.said,
            redis_url=redis_at.worker_url if near else None,
            redis_user=user,
            redis_password=password,
            signing_key=core.keys.signing.public_key().public_bytes_raw(),
            target_keys={
                generation: core.keys.target_key(token.name, generation)
                for generation in {token.key_generation, *core.ledger.generations(token.name)}
            },
            heartbeat_seconds=HEARTBEAT,
            drained=member.machine in core.membership.drained,
            tunnel=session.passage.ticket if redis_at.own else None,
            delivers_until=iso(member.delivers_until) if member.delivering else None,
        )

    async def _attend(self, session: WorkerSession, member: Member, deliver: asyncio.Task[None]) -> bool:
        """Listen until the worker leaves or has to; from then on nothing is taken from it, whatever it goes on sending.
        True after a farewell."""
        listening = asyncio.create_task(self._listen(session, member))
        over = asyncio.create_task(session.over.wait())
        try:
            await asyncio.wait({listening, over}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                return listening.result()
            listening.cancel()
            await asyncio.wait({deliver}, timeout=PARTING)
            return False
        finally:
            listening.cancel()
            over.cancel()

    async def _listen(self, session: WorkerSession, member: Member) -> bool:
        """What a worker says in the session: big content, in pieces, and its farewell. True after a farewell."""
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                message = await session.receive()
            except WebSocketDisconnect:
                return False
            if isinstance(message, Farewell):
                return True
            if not isinstance(message, BlobPart):
                continue
            self._core.membership.heard(member)
            size += len(message.data)
            if size <= messages.LARGEST_CONTENT:
                parts.append(message.data)
            if message.last:
                error = await asyncio.to_thread(self._store_blob, message.checksum, parts, size)
                session.send(BlobStored(message.checksum, error))
                parts, size = [], 0

    def _store_blob(self, checksum: str, parts: list[bytes], size: int) -> str | None:
        """Keeps the content; returns why not."""
        if size > messages.LARGEST_CONTENT:
            return f"content of {size} bytes is larger than {messages.LARGEST_CONTENT}"
        content = b"".join(parts)
        if hashlib.sha256(content).hexdigest() != checksum:
            return "the content is not what its checksum says"
        try:
            put_blobs(self._core.repo.blobs, [(checksum, content)])
        except (SwampError, OSError) as error:
            return str(error)
        return None


async def _binary(websocket: WebSocket) -> bytes:
    data = await frame(websocket)
    if not isinstance(data, bytes):
        raise Malformed("a frame is text")
    return data


def _other_protocol(theirs: int) -> str:
    return (
        f"the worker speaks protocol {theirs}, the orchestrator {messages.PROTOCOL}: install the same version of Swamp"
    )
