"""Range coder with a state of 48 bits: symbols with integer frequencies to bytes and back."""

STATE_BITS = 48
LEAST_BITS = 40
"""The range never falls below 2^40, hence no total frequency may exceed it."""


class RangeEncoder:
    """Encoder of a range coder.

    Each symbol narrows an interval of the unit interval in proportion to its frequency. Carries cost nothing,
    since the lower end is one integer of arbitrary length.

    Reference:
        Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979.

    Example:
        >>> encoder = RangeEncoder()
        >>> for symbol in (0, 2, 1):
        ...     encoder.encode(symbol, 1, 3)
        >>> decoder = RangeDecoder(encoder.finish())
        >>> found = []
        >>> for _ in range(3):
        ...     found.append(decoder.place(3))
        ...     decoder.take(found[-1], 1)
        >>> found
        [0, 2, 1]
    """

    def __init__(self) -> None:
        self._low, self._range, self._bytes = 0, 1 << STATE_BITS, 0

    def encode(self, below: int, frequency: int, total: int) -> None:
        """Encode one symbol by narrowing the interval to its share.

        Args:
            below: Sum of the frequencies of all symbols in front of this one, at least 0.
            frequency: Frequency of the symbol, at least 1.
            total: Sum of all frequencies, at most 2^40.
        """
        step = self._range // total
        self._low += below * step
        self._range = frequency * step
        while self._range < 1 << LEAST_BITS:
            self._low, self._range, self._bytes = self._low << 8, self._range << 8, self._bytes + 1

    def finish(self) -> bytes:
        """Shortest bytes that, followed by zeros, lie in the interval.

        Returns:
            The code; empty if no symbol was encoded.
        """
        bits = STATE_BITS + 8 * self._bytes
        for size in range(bits // 8 + 1):
            unit = 1 << (bits - 8 * size)
            code = -(-self._low // unit)
            if code * unit < self._low + self._range:
                return code.to_bytes(size, "big")
        raise AssertionError("an interval holds its own lower end")


class RangeDecoder:
    """Decoder of `RangeEncoder`; of bytes that no encoder made it decodes some symbols, without an error.

    Args:
        data: The code.
    """

    def __init__(self, data: bytes):
        self._data, self._next = data, STATE_BITS // 8
        self._code = int.from_bytes(data[: self._next].ljust(self._next, b"\0"), "big")
        self._range, self._step = 1 << STATE_BITS, 1

    def place(self, total: int) -> int:
        """Where the next symbol lies among all frequencies.

        Args:
            total: Sum of all frequencies, at most 2^40.

        Returns:
            A number in [0, total): the symbol is the one with `below` <= number < `below` + frequency.
        """
        self._step = self._range // total
        return min(self._code // self._step, total - 1)

    def take(self, below: int, frequency: int) -> None:
        """Go on behind the symbol that `place` pointed to.

        Args:
            below: Sum of the frequencies of all symbols in front of it.
            frequency: Frequency of the symbol.
        """
        self._code -= below * self._step
        self._range = frequency * self._step
        while self._range < 1 << LEAST_BITS:
            byte = self._data[self._next] if self._next < len(self._data) else 0
            self._code, self._range, self._next = self._code << 8 | byte, self._range << 8, self._next + 1
