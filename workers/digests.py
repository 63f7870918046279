"""A set of digests that costs little more memory than their bytes."""

from __future__ import annotations

SIZE = 16  #: bytes of a digest: two ids do not come to share one
_BUCKETS = 2048


class Digests:
    """Only grows. Digests are spread evenly, as the hashes that they are, so each bucket is short enough to search."""

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * _BUCKETS
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: bytes) -> bool:
        bucket = self._buckets[(digest[0] << 8 | digest[1]) % _BUCKETS]
        return bucket is not None and _holds(bucket, digest)

    def add(self, digest: bytes) -> None:
        """Adding one that is there does nothing."""
        number = (digest[0] << 8 | digest[1]) % _BUCKETS
        bucket = self._buckets[number]
        if bucket is None:
            bucket = self._buckets[number] = bytearray()
        elif _holds(bucket, digest):
            return
        bucket += digest
        self._count += 1


def _holds(bucket: bytearray, digest: bytes) -> bool:
    at = bucket.find(digest)
    while at > 0 and at % SIZE:  # found across two digests
        at = bucket.find(digest, at + 1)
    return at >= 0
