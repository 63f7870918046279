"""msgpack's packer, kept from one value to the next: it asks the system for a megabyte each time that one is made."""

from __future__ import annotations

import threading

import msgpack

KEPT = 1 << 20  #: bytes of the longest value whose room is kept


class Packer(threading.local):
    """Each thread has its own."""

    def __init__(self, *, use_bin_type: bool = True) -> None:
        """Without `use_bin_type` bytes are packed as text is, as msgpack's first version has it."""
        self._use_bin_type = use_bin_type
        self._packer = msgpack.Packer(use_bin_type=use_bin_type)

    def pack(self, value: object) -> bytes:
        """Raises what msgpack raises for values that it does not know."""
        packed: bytes = self._packer.pack(value)
        if len(packed) > KEPT:
            self._packer = msgpack.Packer(use_bin_type=self._use_bin_type)
        return packed
