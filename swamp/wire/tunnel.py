"""The frames of a tunnel: a connection to Redis on its way through a WebSocket. Pure.

A frame carries the next bytes of the connection, and says nothing else: where a request begins or ends is no matter of
the tunnel. It is formed as a message of the session is, of a few Noise messages: of one alone, the many wake-ups for a
big result would take longer than its encryption.
"""

from __future__ import annotations

from swamp.wire.noise import CHUNK, RECORD, Initiator, MessageRefused, Responder

RECORDS = 4  #: Noise messages in one frame
LONGEST = RECORDS * CHUNK  #: bytes of the connection in one frame


def seal(noise: Initiator | Responder, data: bytes) -> bytes:
    """The frame for up to `LONGEST` bytes of the connection, one at least."""
    if not 0 < len(data) <= LONGEST:
        raise ValueError(f"a frame of a tunnel carries 1 to {LONGEST} bytes, not {len(data)}")
    return noise.encrypt(data)


def unseal(noise: Initiator | Responder, frame: object) -> bytes:
    """The bytes that a frame carries. Raises `MessageRefused` and nothing else, whatever came; the tunnel is then
    over."""
    if not isinstance(frame, bytes) or len(frame) > RECORDS * RECORD:
        raise MessageRefused("what came through a tunnel is no frame of one")
    data = noise.decrypt(frame)
    if not data:
        raise MessageRefused("an empty frame came through a tunnel")
    return data
