"""Joining and the session after it: Noise_XXpsk0_25519_ChaChaPoly_SHA256, with types, over the `noiseprotocol` package.

Three handshake messages, each with a payload: the initiator (worker) writes, reads, writes; the responder
(orchestrator) reads, writes, reads. The token's secret is the pre-shared key, so who does not know it cannot even
read the first message. Afterwards both sides hold each other's static key, and messages of any length pass.

A message of the session is a row of Noise messages, all but the last 65,535 bytes long. Inside each, the first byte
says whether another follows (1) or it is the last (0), so that a shortened row is noticed.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped]

from swamp.errors import NotAllowed

PROTOCOL = b"Noise_XXpsk0_25519_ChaChaPoly_SHA256"
MAX_PAYLOAD = 65_000  # bytes that may go with a handshake message
MAX_MESSAGE = 64 << 20  # bytes of one session message

RECORD = 65_535  # bytes; the longest Noise message
CHUNK = RECORD - 16 - 1  # less the tag and the byte that says whether more follows
_MORE, _LAST = b"\x01", b"\x00"


class HandshakeRefused(NotAllowed):
    """The other side does not know the secret, speaks of something else, or does not speak this protocol."""

    default_code = "handshake_refused"


class MessageRefused(NotAllowed):
    """A message of the session was changed, reordered or cut; the session is over."""

    default_code = "message_refused"


class _Party:
    """What both sides have in common. One thread may encrypt while another decrypts, not two the same."""

    def __init__(self, static_private: X25519PrivateKey, psk: bytes, prologue: bytes) -> None:
        """`psk` has 32 bytes. Both sides must name the same `prologue`: all that was said in clear before."""
        self._noise = NoiseConnection.from_name(PROTOCOL)
        self._noise.set_psks(psk)
        self._noise.set_prologue(prologue)
        raw = static_private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self._noise.set_keypair_from_private_bytes(Keypair.STATIC, raw)
        self._broken = False

    def _start(self) -> None:
        self._noise.start_handshake()
        self._state = self._noise.noise_protocol.handshake_state

    @property
    def done(self) -> bool:
        """Whether the handshake is complete."""
        finished: bool = self._noise.handshake_finished
        return finished

    @property
    def peer_static(self) -> bytes:
        """The other side's static public key: 32 bytes. The initiator knows it after the second message, the responder
        after the third; raises `RuntimeError` before."""
        public = getattr(self._state.rs, "public_bytes", None)
        if not isinstance(public, bytes):
            raise RuntimeError("the other side has not shown its key yet")
        return public

    @property
    def handshake_hash(self) -> bytes:
        """32 bytes that stand for this one handshake, the same on both sides. Raises `RuntimeError` before the end."""
        if not self.done:
            raise RuntimeError("the handshake is not complete")
        value: bytes = self._noise.get_handshake_hash()
        return value

    def write(self, payload: bytes = b"") -> bytes:
        """The next handshake message, carrying `payload`. Raises `ValueError` when that is longer than MAX_PAYLOAD."""
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a handshake message carries at most {MAX_PAYLOAD} bytes")
        if self._broken:
            raise HandshakeRefused("the handshake was refused before")
        return bytes(self._noise.write_message(payload))

    def read(self, message: bytes) -> bytes:
        """The payload of the other side's next handshake message.

        Raises `HandshakeRefused` and nothing else, whatever the bytes; the handshake is then over.
        """
        if self._broken or self.done or len(message) > RECORD:
            self._broken = True
            raise HandshakeRefused("a handshake message came that is too long or out of turn")
        try:
            return bytes(self._noise.read_message(message))
        except Exception as error:
            # The package lets errors of several libraries through; to us all say the same.
            self._broken = True
            raise HandshakeRefused("the handshake was refused: the secret or the protocol differs") from error

    def encrypt(self, plaintext: bytes) -> bytes:
        """A session message. Raises `ValueError` when it is longer than MAX_MESSAGE."""
        if len(plaintext) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(plaintext)} bytes is longer than {MAX_MESSAGE}")
        if len(plaintext) <= CHUNK:
            return bytes(self._noise.encrypt(_LAST + plaintext))
        starts = range(0, len(plaintext), CHUNK)
        return b"".join(
            self._noise.encrypt((_LAST if start == starts[-1] else _MORE) + plaintext[start : start + CHUNK])
            for start in starts
        )

    def decrypt(self, message: bytes) -> bytes:
        """What the other side encrypted, in the order in which it did.

        Raises `MessageRefused` and nothing else, whatever the bytes; every later message is then refused too.
        """
        if self._broken or not self.done or len(message) > MAX_MESSAGE + (MAX_MESSAGE // CHUNK + 1) * 17:
            self._broken = True
            raise MessageRefused("a message came that is too long, or after the session was over")
        chunks = []
        try:
            for start in range(0, max(len(message), 1), RECORD):
                chunk: bytes = self._noise.decrypt(message[start : start + RECORD])
                if chunk[:1] != (_LAST if start + RECORD >= len(message) else _MORE):
                    raise ValueError("the message was cut or lengthened")
                chunks.append(chunk[1:])
        except Exception as error:
            self._broken = True
            raise MessageRefused("a message was changed, repeated, cut or left out on the way") from error
        return b"".join(chunks)


class Initiator(_Party):
    """The side that begins: a worker."""

    def __init__(self, static_private: X25519PrivateKey, psk: bytes, prologue: bytes) -> None:
        super().__init__(static_private, psk, prologue)
        self._noise.set_as_initiator()
        self._start()


class Responder(_Party):
    """The side that answers: an orchestrator."""

    def __init__(self, static_private: X25519PrivateKey, psk: bytes, prologue: bytes) -> None:
        super().__init__(static_private, psk, prologue)
        self._noise.set_as_responder()
        self._start()
