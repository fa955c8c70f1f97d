"""A Bloom filter with one hash: its memory does not grow with the number of runs."""

from collections.abc import Hashable

_BITS = 1 << 24


class Sieve:
    """A bit for each hash: an added value is never reported as new, a new one nearly always is.

    At a million values, one in seventeen new ones is a false positive, which costs a lookup.
    """

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, value: Hashable) -> None:
        self._bits = self._bits or bytearray(_BITS // 8)
        at = hash(value) % _BITS
        self._bits[at >> 3] |= 1 << (at & 7)

    def is_new(self, value: Hashable) -> bool:
        """Whether the value was certainly not added."""
        at = hash(value) % _BITS
        return not self._bits or not self._bits[at >> 3] >> (at & 7) & 1
