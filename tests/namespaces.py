"""Two machines and a wire between them, on one: network namespaces. Linux, and root."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_ALL_PROTOCOLS = 3  # ETH_P_ALL
_SO_RCVBUFFORCE = 33
Made = TypeVar("Made")


def missing() -> str | None:
    """What this machine lacks for it."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    if shutil.which("ip") is None:
        return "no `ip` to make network namespaces with (on Debian: apt-get install iproute2)"
    name = f"swamp-{secrets.token_hex(4)}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"no network namespace can be made here: {tried.stderr.strip()}"
    _ip("netns", "delete", name)
    return None


@dataclass(frozen=True)
class Machine:
    """Has one way out, to the other machine."""

    name: str
    address: str
    port: str  #: the name of its network card

    @property
    def inside(self) -> Sequence[str]:
        """Before a command: run it there."""
        return ("ip", "netns", "exec", self.name)

    def within(self, work: Callable[[], Made]) -> Made:
        """Do something there, in a thread. Sockets that it makes belong there for good."""
        made: list[Made] = []
        failed: list[BaseException] = []

        def go() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open() as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=go)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def plug(self, *, in_: bool) -> None:
        """Put the wire in, or pull it."""
        _ip("-n", self.name, "link", "set", self.port, "up" if in_ else "down")

    @contextmanager
    def captured(self) -> Iterator[bytearray]:
        """What passes over the wire meanwhile: frames of the network card, joined."""
        eavesdropper = self.within(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
        )
        eavesdropper.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        eavesdropper.bind((self.port, _ALL_PROTOCOLS))
        eavesdropper.settimeout(0.1)
        over = threading.Event()
        flows: dict[bytes, list[tuple[int, bytes]]] = {}
        seen = bytearray()

        def listen() -> None:
            while not over.is_set():
                try:
                    frame = eavesdropper.recv(1 << 17)
                except TimeoutError:
                    continue
                _sort_in(frame, flows)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()
            eavesdropper.close()
            for segments in flows.values():
                seen += b"\xff" * 64 + _joined(segments)


def _sort_in(frame: bytes, flows: dict[bytes, list[tuple[int, bytes]]]) -> None:
    """TCP over IPv4: the bytes of each direction of each connection, by their number."""
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return
    packet = frame[14 : 14 + int.from_bytes(frame[16:18])]
    tcp = packet[(packet[0] & 0x0F) * 4 :]
    data = tcp[(tcp[12] >> 4) * 4 :]
    if data:
        flows.setdefault(packet[12:20] + tcp[:4], []).append((int.from_bytes(tcp[4:8]), data))


def _joined(segments: list[tuple[int, bytes]]) -> bytes:
    """In their order, each byte once. (The first number may lie near the end of the numbers.)"""
    first = segments[0][0]
    out = bytearray()
    for number, data in sorted(((number - first) % (1 << 32), data) for number, data in segments):
        if number <= len(out):
            out += data[len(out) - number :]
        else:  # not caught: as far as it goes
            out += bytes(number - len(out)) + data
    return bytes(out)


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Each sees of the other what listens at its address, and nothing else of this machine."""
    mark = secrets.token_hex(3)
    machines = (
        Machine(f"swamp-a-{mark}", "10.213.7.1", f"a{mark}"),
        Machine(f"swamp-b-{mark}", "10.213.7.2", f"b{mark}"),
    )
    try:
        for machine in machines:
            _ip("netns", "add", machine.name)
        near, far = machines
        _ip("link", "add", near.port, "netns", near.name, "type", "veth", "peer", far.port, "netns", far.name)
        for machine in machines:
            _ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", machine.port)
            _ip("-n", machine.name, "link", "set", "lo", "up")
            machine.plug(in_=True)
        yield machines
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
