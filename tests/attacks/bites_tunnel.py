"""Defences of the tunnel to Redis."""

from __future__ import annotations

from typing import Any

from tests.attacks.bites import Bite, put

TUNNEL = "tests/attacks/test_tunnel.py"
WIRE = "tests/attacks/test_on_the_network_without_tls.py"


def _no_encryption() -> None:
    from swamp.wire import tunnel

    put(tunnel, "seal", lambda _noise, data: data)
    put(tunnel, "unseal", lambda _noise, frame: frame)


def _no_check_of_frames() -> None:
    from swamp.wire import tunnel
    from swamp.wire.noise import MessageRefused

    right = tunnel.unseal

    def unseal(noise: Any, frame: Any) -> bytes:
        try:
            return right(noise, frame)
        except MessageRefused:
            return frame if isinstance(frame, bytes) else b""

    put(tunnel, "unseal", unseal)


def _no_longest_frame() -> None:
    from swamp.wire import tunnel

    put(tunnel, "unseal", lambda noise, frame: noise.decrypt(frame))


def _no_end() -> None:
    from swamp.orchestrator.tunnel import Tunnels

    put(Tunnels, "close", lambda _self, _passage: None)


def _no_cut() -> None:
    from swamp.orchestrator.tunnel import Passage

    put(Passage, "end", lambda _self: None)


def _for_anybody() -> None:
    from swamp.orchestrator.tunnel import Tunnels

    right = Tunnels.serve

    async def serve(self: Any, websocket: Any, noise: Any, ticket: str, machine: bytes) -> None:
        passage = self._passages.get(ticket)
        await right(self, websocket, noise, ticket, passage.machine if passage else machine)

    put(Tunnels, "serve", serve)


def _no_most() -> None:
    from swamp.orchestrator import tunnel

    put(tunnel, "MOST", 1 << 30)


def _keep_answers() -> None:
    """Read all that Redis says, whoever takes it."""
    from asyncio import ensure_future, sleep

    from swamp.orchestrator import tunnel as ours
    from swamp.wire import tunnel

    async def down(websocket: Any, noise: Any, redis_end: Any) -> None:
        kept: list[bytes] = []

        async def send() -> None:
            while True:
                while kept:
                    await websocket.send_bytes(tunnel.seal(noise, kept.pop(0)))
                await sleep(0.001)

        sending = ensure_future(send())
        try:
            while data := await redis_end.read(tunnel.LONGEST):
                kept.append(data)
        finally:
            sending.cancel()

    put(ours, "_down", down)


def _keep_requests() -> None:
    """Read all that a worker says, whoever takes it."""
    from swamp.orchestrator import tunnel as ours
    from swamp.wire import tunnel

    async def up(websocket: Any, noise: Any, redis_end: Any) -> None:
        while True:
            redis_end.write(tunnel.unseal(noise, await ours.frame(websocket)))

    put(ours, "_up", up)


BITES = (
    Bite(
        "frames of a tunnel are sealed",
        f"{WIRE}::test_a_capture_of_a_tunnel_holds_no_secret_and_no_word_of_redis",
        _no_encryption,
    ),
    Bite(
        "frames of a tunnel are checked",
        f"{TUNNEL}::test_what_is_no_frame_ends_the_tunnel_and_nothing_else[bytes that were not sealed]",
        _no_check_of_frames,
    ),
    Bite(
        "frames of a tunnel have a limit",
        f"{TUNNEL}::test_what_is_no_frame_ends_the_tunnel_and_nothing_else[a frame that carries too much]",
        _no_longest_frame,
    ),
    Bite(
        "a tunnel needs a session",
        f"{TUNNEL}::test_a_machine_without_a_session_gets_no_tunnel",
        _no_end,
    ),
    Bite(
        "a ticket is of one machine",
        f"{TUNNEL}::test_the_ticket_of_another_machine_opens_nothing",
        _for_anybody,
    ),
    Bite(
        "tunnels of a session have a limit",
        f"{TUNNEL}::test_a_session_gets_three_connections_and_no_more",
        _no_most,
    ),
    Bite(
        "who is put out loses the tunnel",
        f"{TUNNEL}::test_a_machine_that_is_put_out_loses_its_tunnel_within_a_second",
        _no_cut,
    ),
    Bite(
        "a new session ends the old one's tunnels",
        f"{TUNNEL}::test_a_machine_that_joins_anew_loses_the_tunnels_of_its_old_session",
        _no_cut,
    ),
    Bite(
        "answers wait in Redis",
        f"{TUNNEL}::test_answers_that_nobody_reads_are_not_kept_by_the_orchestrator",
        _keep_answers,
    ),
    Bite(
        "requests wait at the worker",
        f"{TUNNEL}::test_what_redis_does_not_take_waits_at_the_worker",
        _keep_requests,
    ),
)
