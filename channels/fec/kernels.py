"""Numba kernels of the LDPC code. Imported on first use: importing Numba takes longer than all the rest.

The bits of one column of the base graph, of several code blocks side by side, are the lanes of one vector:
lane = bit * frames + frame. A cyclic shift of the lifted matrix is then a shift by `shift * frames` lanes.
Narrow integers and loops over whole vectors of 64 lanes are what LLVM turns into one instruction each:
saturating bytes are spelt min(max(..., -128), 127) in 16 bits, and indices are unsigned because a signed one
would be tested for wrapping round.
"""

import typing

import numpy as np
from numba import njit

U = np.uint64
MESSAGE_LIMIT = 31  # a quarter of the range: a saturated posterior outweighs a few contradictions
LANES = 64  # bytes in one AVX-512 register; narrower machines split it


@njit(cache=True, nogil=True, boundscheck=False)
@typing.no_type_check
def encode(codeword, row_start, column, shift, unknown, z):
    """Solve one parity column per row. `codeword` [blocks, columns * z] holds information, and solved columns."""
    total = np.empty(z, np.uint8)
    for word in codeword:
        for row in range(len(unknown)):
            total[:] = 0
            for edge in range(row_start[row], row_start[row + 1]):
                bits = word[column[edge] * z : (column[edge] + 1) * z]
                s = shift[edge]
                for i in range(z - s):
                    total[i] ^= bits[i + s]
                for i in range(z - s, z):
                    total[i] ^= bits[i + s - z]
            solved = unknown[row]
            if solved >= 0:
                word[solved * z : (solved + 1) * z] ^= total


@njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")
@typing.no_type_check
def decode(llr, graph, z, frames, scale, offset, max_iterations, early_stop, bits, ok, iterations):
    """Layered offset min-sum in 8-bit integers.

    Args:
        llr: float32 [blocks, columns * z].
        graph: row_start, column, turn, check_turn, rotation, all int64. A column is kept in the order in which
            the last row to touch it saw it: `turn` is the further shift each edge needs, `check_turn` the
            shift from the order at the end of an iteration, `rotation` that order.
        z: Lifting size.
        frames: Code blocks side by side.
        scale: Quantiser steps per unit of LLR.
        offset: Offset in quantiser steps.
        max_iterations: At least 1.
        early_stop: Whether to stop when all checks hold.
        bits: uint8 [blocks, information columns * z], written.
        ok: bool [blocks], written: all checks hold and no information bit is undecided.
        iterations: int64 [blocks], written.
    """
    row_start, column, turn, check_turn, rotation = graph
    blocks, columns, rows = llr.shape[0], len(rotation), len(row_start) - 1
    lanes = U(z * frames)
    padded = (lanes + U(LANES - 1)) // U(LANES) * U(LANES)
    pitch = lanes + padded  # a column and its beginning once more, so that any shift reads straight on
    posterior = np.zeros(U(columns) * pitch + U(LANES), np.int8)
    message = np.empty(U(len(column)) * padded, np.int8)
    degree = 0
    for row in range(rows):
        degree = max(degree, row_start[row + 1] - row_start[row])
    incoming = np.empty(U(degree) * padded, np.int8)
    least, second = np.empty(padded, np.uint8), np.empty(padded, np.uint8)
    sign = np.empty(padded, np.int8)
    failed = np.empty(padded, np.int8)
    beta, limit = np.uint8(offset), np.uint8(MESSAGE_LIMIT)
    # All checks of a bit together must be able to overrule the channel, or a parity bit of one check that noise
    # turned round with certainty stays wrong for ever, and the block with it.
    certain = np.zeros(columns, np.float32)
    for edge in range(len(column)):
        certain[column[edge]] = min(certain[column[edge]] + MESSAGE_LIMIT - offset - 1, 127)

    for first in range(0, blocks, frames):
        here = min(frames, blocks - first)
        message[:] = 0
        for c in range(columns):
            for f in range(here):
                source = llr[first + f, c * z : (c + 1) * z]
                for i in range(z):
                    j = i + rotation[c]
                    if j >= z:
                        j -= z
                    x = np.int8(np.rint(min(max(source[j] * scale, -certain[c]), certain[c])))
                    posterior[U(c) * pitch + U(i * frames + f)] = x
            for i in range(U(0), padded):
                posterior[U(c) * pitch + lanes + i] = posterior[U(c) * pitch + i]
        ok[first : first + here] = False

        for iteration in range(1, max_iterations + 1):
            for row in range(rows):
                least[:] = limit
                second[:] = limit
                sign[:] = 0
                slot = U(0)
                for edge in range(row_start[row], row_start[row + 1]):
                    a = U(column[edge]) * pitch + U(turn[edge] * frames)
                    m = U(edge) * padded
                    for v in range(U(0), padded, U(LANES)):
                        for i in range(v, v + U(LANES)):
                            x = np.int8(
                                min(max(np.int16(posterior[a + i]) - np.int16(message[m + i]), -128), 127)
                            )
                            incoming[slot + i] = x
                            magnitude = np.uint8(abs(np.int16(x)))
                            second[i] = min(second[i], max(least[i], magnitude))
                            least[i] = min(least[i], magnitude)
                            sign[i] ^= x
                    slot += padded
                slot = U(0)
                for edge in range(row_start[row], row_start[row + 1]):
                    a = U(column[edge]) * pitch
                    m = U(edge) * padded
                    for v in range(U(0), padded, U(LANES)):
                        for i in range(v, v + U(LANES)):
                            x = incoming[slot + i]
                            magnitude = np.uint8(abs(np.int16(x)))
                            other = second[i] if magnitude == least[i] else least[i]
                            y = np.int8(max(other, beta) - beta)
                            if (sign[i] ^ x) < 0:
                                y = np.int8(-y)
                            message[m + i] = y
                            posterior[a + i] = np.int8(min(max(np.int16(x) + np.int16(y), -128), 127))
                    for v in range(U(0), padded, U(LANES)):
                        for i in range(v, v + U(LANES)):
                            posterior[a + lanes + i] = posterior[a + i]
                    slot += padded

            if not early_stop and iteration < max_iterations:
                continue
            failed[:] = 0
            for row in range(rows):
                sign[:] = 0
                for edge in range(row_start[row], row_start[row + 1]):
                    a = U(column[edge]) * pitch + U(check_turn[edge] * frames)
                    for v in range(U(0), padded, U(LANES)):
                        for i in range(v, v + U(LANES)):
                            x = posterior[a + i]
                            sign[i] ^= x
                            failed[i] |= np.int8(-1) if x == 0 else np.int8(0)
                some = np.int8(0)
                for i in range(U(0), lanes):
                    failed[i] |= sign[i]
                    some |= failed[i]
                if frames == 1 and some < 0:
                    break
            done = 0
            for f in range(here):
                if not ok[first + f]:
                    bad = np.int8(0)
                    for i in range(z):
                        bad |= failed[i * frames + f]
                    ok[first + f] = bad >= 0
                    iterations[first + f] = iteration
                    if bad >= 0 or iteration == max_iterations:
                        for c in range(bits.shape[1] // z):
                            for i in range(z):
                                j = i + rotation[c]
                                if j >= z:
                                    j -= z
                                x = posterior[U(c) * pitch + U(i * frames + f)]
                                bits[first + f, c * z + j] = x < 0
                done += ok[first + f]
            if done == here:
                break
