"""Frames of a WebSocket that no client of ours would send."""

from __future__ import annotations

from websockets.sync.client import ClientConnection


def announce(websocket: ClientConnection, size: int) -> None:
    """The head of a binary message of so many bytes, masked as a client has to, and none of them: what is still on its
    way when the other side hangs up may cost us the reason that it gives."""
    websocket.socket.sendall(b"\x82\xff" + size.to_bytes(8, "big") + b"mask")
