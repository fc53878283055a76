"""Kernel of recursive code construction: an asymmetric numeral system turns host symbols into stego symbols.

The state of the numeral system is a stack of bits, the message. Each host symbol x is pushed according to its
law p, and the stego symbol y is popped according to its law r: log2 p(x) / r(y) bits leave the stack. Both
share
the slot, which lies in the intervals of x in p and of y in r, so that y given x follows the monotone coupling
of
p and r. The extractor runs the same backwards with p and r exchanged. All numbers are integers.
"""

import typing

import numpy as np

from channels.compiled import compiled

PRECISION = 16  # bits of the frequencies
LEAST_STATE = 1 << 31  # words of 32 bits are moved to keep the state in 2^31 .. 2^63
WORD = 32


@compiled()
@typing.no_type_check
def transcode(symbols, classes, source, target, state, stack, size, first, last):
    """Replace symbols of the laws `source` by symbols of the laws `target`, in place.

    Args:
        symbols: int32 [sites]; symbols outside 0..N-1, or of frequency 0, are skipped.
        classes: int32 [sites], the row of the laws for each site; sites of class -1 are skipped.
        source: int64 [classes, N + 1], cumulative frequencies from 0 to 2^16.
        target: int64 [classes, N + 1], cumulative frequencies from 0 to 2^16.
        state: State of the coder.
        stack: int64 [words], the rest of the message, the top at `size` - 1.
        size: Number of words in the stack.
        first: Site to begin with.
        last: Site before which to stop, after `first`; or -1, to go backwards from `first` to site 0.

    Returns:
        State, size, and the site at which the coder stopped: going forward, where the stack was empty, or
            `last`. A size of -1 signals that the stack overflowed.
    """
    n = source.shape[1] - 1
    step = 1 if last >= 0 else -1
    i = first
    while i != last:
        k = classes[i]
        x = symbols[i]
        if k < 0 or x < 0 or x >= n:
            i += step
            continue
        low = source[k, x]
        frequency = source[k, x + 1] - low
        if frequency == 0:
            i += step
            continue
        if step > 0 and size == 0:
            break
        if (state >> 47) >= frequency:  # 2^63 / 2^PRECISION
            if size == len(stack):
                return state, -1, i
            stack[size] = state & 0xFFFFFFFF
            size += 1
            state >>= 32
        quotient = state // frequency
        slot = low + state - quotient * frequency
        begin, end = 0, n
        while end - begin > 1:
            middle = (begin + end) >> 1
            if target[k, middle] <= slot:
                begin = middle
            else:
                end = middle
        low = target[k, begin]
        state = quotient * (target[k, begin + 1] - low) + slot - low
        if state < 2147483648:
            if size == 0:
                return state, -1, i
            size -= 1
            state = (state << 32) | stack[size]
        symbols[i] = begin
        i += step
    return state, size, i


def to_words(message: bytes) -> np.ndarray:
    """Split a message into words of 32 bits, with zeros appended.

    Args:
        message: Any bytes.

    Returns:
        Words, int64.
    """
    padded = message + bytes(-len(message) % 4)
    return np.frombuffer(padded, dtype="<u4").astype(np.int64)


def from_words(words: np.ndarray, length: int) -> bytes:
    """Join words of 32 bits to a message, the inverse of `to_words`.

    Args:
        words: Words, int64.
        length: Length of the message in bytes.

    Returns:
        The message.
    """
    return words.astype("<u4").tobytes()[:length]
