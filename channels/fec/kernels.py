"""Numba kernels of the LDPC code, imported on first use because importing Numba is slow.

The bits of one column of the base graph, of several code blocks side by side, are the lanes of one vector:
lane = bit * frames + frame. A cyclic shift of the lifted matrix is then a shift by `shift * frames` lanes.
"""

# pyright: basic

import typing

import numpy as np
from numba import njit

from channels.compiled import compiled
from channels.fec import simd

U, U8 = np.uintp, np.uint8


@compiled(boundscheck=False)
@typing.no_type_check
def encode(bits, graph, turn, z, info_columns, pieces, bits_per_symbol, bounds, coded):
    """LDPC encoding of each block: parity bits, rate matching and bit interleaving.

    Args:
        bits: uint8 [blocks, K'].
        graph: row_start, column, shift; rows in the order of the base graph.
        turn: Shift of the first parity column in the sum of the core rows.
        z: Lifting size.
        info_columns: 22 or 10.
        pieces: int64 [pieces, 2], the circular buffer in order of sending: begin and end in the codeword.
        bits_per_symbol: Rows of the interleaver.
        bounds: int64 [blocks + 1], where each block begins in `coded`.
        coded: uint8 [total], written.
    """
    row_start, column, shift = graph
    rows = len(row_start) - 1
    word = np.empty((info_columns + rows) * z, np.uint8)
    columns = np.empty((info_columns + rows) * (2 * z + simd.LANES), np.uint8)
    first, total = np.empty(z, np.uint8), np.empty(z + simd.LANES, np.uint8)
    for block in range(len(bits)):
        for i in range(info_columns * z):
            word[i] = bits[block, i] if i < bits.shape[1] else 0
        columns[:] = 0
        for c in range(info_columns):
            _write_column(word, columns, c, z)
        # The core rows add up to the information and one turned copy of the first parity column, because each
        # of the next three is in two of them (38.212, 5.3.2: H w = 0).
        first[:] = 0
        for row in range(4):
            _row_sum(columns, row_start[row], row_start[row + 1], column, shift, z, total)
            for i in range(z):
                first[i] ^= total[i]
        for i in range(z):
            word[info_columns * z + (i + turn) % z] = first[i]
        _write_column(word, columns, info_columns, z)
        for row in range(rows):
            if row != 3:
                _row_sum(columns, row_start[row], row_start[row + 1], column, shift, z, total)
                c = info_columns + row + (1 if row < 3 else 0)
                for i in range(z):
                    word[c * z + i] = total[i]
                _write_column(word, columns, c, z)
        _match(word, pieces, bits_per_symbol, coded[bounds[block] : bounds[block + 1]])


@compiled(boundscheck=False)
@typing.no_type_check
def _write_column(word, columns, c, z):
    """Store a column twice in a row, so that any cyclic shift of it is a contiguous read."""
    first = c * (2 * z + simd.LANES)
    for i in range(z):
        columns[first + i] = word[c * z + i]
    for i in range(z):
        columns[first + z + i] = word[c * z + i]


@compiled(boundscheck=False)
@typing.no_type_check
def _row_sum(columns, begin, end, column, shift, z, total):
    """Modulo-2 sum of the shifted columns of one row."""
    pitch = U(2 * z + simd.LANES)
    for v in range(U(0), U(z), U(simd.LANES)):
        bits = simd.fill(U8(0))
        for edge in range(begin, end):
            bits = simd.xor(bits, simd.load(columns, U(column[edge]) * pitch + U(shift[edge]) + v))
        simd.store(total, v, bits)


@compiled(boundscheck=False)
@typing.no_type_check
def _match(word, pieces, bits_per_symbol, coded):
    """Rate matching and bit interleaving, written by rows and read by columns (5.4.2.1, 5.4.2.2)."""
    columns = len(coded) // bits_per_symbol
    piece, at = 0, pieces[0, 0]
    for i in range(bits_per_symbol):
        j = 0
        while j < columns:
            run = min(columns - j, pieces[piece, 1] - at)
            for m in range(run):
                coded[(j + m) * bits_per_symbol + i] = word[at + m]
            j += run
            at += run
            if at == pieces[piece, 1]:
                piece = (piece + 1) % len(pieces)
                at = pieces[piece, 0]


@compiled(boundscheck=False)
@typing.no_type_check
def _recover(llr, pieces, bits_per_symbol, soft):
    """Inverse of rate matching and interleaving; LLRs of repeated bits are added."""
    columns = len(llr) // bits_per_symbol
    piece, at = 0, pieces[0, 0]
    for i in range(bits_per_symbol):
        j = 0
        while j < columns:
            run = min(columns - j, pieces[piece, 1] - at)
            for m in range(run):
                soft[at + m] += llr[(j + m) * bits_per_symbol + i]
            j += run
            at += run
            if at == pieces[piece, 1]:
                piece = (piece + 1) % len(pieces)
                at = pieces[piece, 0]


@njit(inline="always")
@typing.no_type_check
def _boxplus(a, b, knee):
    """|a boxplus b| of magnitudes, in quantiser steps.

    min(a, b) - c(|a - b|) + c(a + b) with c(x) = log(1 + exp(-x)). A straight c of slope -1/4 that ends at
    the knee makes the correction a quarter of min(knee - |a - b|, 2 min(a, b)) or 0, here rounded.
    """
    low = simd.smaller(a, b)
    gap = simd.subtract(simd.larger(a, b), low)
    lost = simd.smaller(simd.subtract_to_zero(knee, gap), simd.add(low, low))
    return simd.subtract(low, simd.quarter(simd.add(lost, simd.fill(U8(2)))))


@compiled(boundscheck=False, error_model="numpy")
@typing.no_type_check
def decode(
    llr, bounds, pieces, bits_per_symbol, graph, z, filler, quantiser, frames, iteration_limit, early_stop,
    bits, ok, iterations,
):  # fmt: skip
    """Layered belief propagation in 8-bit integers.

    The check node update extends A-min* (Jones, Valles, Smith and Villasenor, MILCOM 2003) to two edges: each
    of the two least reliable edges receives the boxplus of all others, every other edge the boxplus of all
    edges. With one edge, as published, a block needs an iteration more in twenty.

    Args:
        llr: float32 [total].
        bounds: int64 [blocks + 1], where each block begins in `llr`.
        pieces: int64 [pieces, 2], the circular buffer in order of sending: begin and end in the codeword.
        bits_per_symbol: Rows of the interleaver.
        graph: row_start, column, turn, check_turn, rotation. A column is kept in the order in which the last
            row to touch it saw it: `turn` is the further shift each edge needs, `check_turn` the shift from
            the order at the end of an iteration, `rotation` that order.
        z: Lifting size.
        filler: First filler bit, and the bit after the last.
        quantiser: Steps per unit of LLR, knee, largest channel value, largest message, in steps.
        frames: Code blocks side by side.
        iteration_limit: At least 1.
        early_stop: Whether to stop when all checks hold.
        bits: uint8 [blocks, K'], written.
        ok: bool [blocks], written: all checks hold, and no bit in them is undecided.
        iterations: int64 [blocks], written.

    Returns:
        False if an LLR is NaN.
    """
    row_start, column, turn, check_turn, rotation = graph
    scale, knee_steps, channel_limit, message_limit = quantiser
    blocks, columns, rows = len(ok), len(rotation), len(row_start) - 1
    step = U(simd.LANES)
    lanes = U(z * frames)
    padded = (lanes + step - U(1)) // step * step
    pitch = lanes + padded  # a column and its beginning repeated, so that any shift is a contiguous read
    degree = 0
    for row in range(rows):
        degree = max(degree, row_start[row + 1] - row_start[row])
    posterior = np.zeros(U(columns) * pitch + padded, np.int8)
    message = np.empty(U(len(column)) * padded, np.int8)
    incoming = np.empty(U(degree) * padded, np.int8)
    state = np.empty(U(4) * padded, np.int8)
    failed = np.empty(padded, np.int8)
    good = np.zeros(frames, np.bool_)
    soft = np.empty(columns * z, np.float32)
    rounded = np.zeros((frames, columns * z), np.int8)
    knee, limit = simd.fill(U8(knee_steps)), simd.fill(U8(message_limit))
    zero = simd.fill(U8(0))
    valid = True

    for group in range(0, blocks, frames):
        here = min(frames, blocks - group)
        message[:] = 0
        for f in range(here):
            soft[:] = 0
            _recover(llr[bounds[group + f] : bounds[group + f + 1]], pieces, bits_per_symbol, soft)
            valid &= _round(soft, scale, channel_limit, rounded[f])
            for i in range(filler[0], filler[1]):
                rounded[f, i] = 127
            ok[group + f] = False
        for c in range(columns):
            first = U(c) * pitch
            _interleave(rounded[:, c * z : (c + 1) * z], rotation[c], posterior[first : first + lanes])
            for i in range(padded):
                posterior[first + lanes + i] = posterior[first + i]
        unfinished = here

        for iteration in range(1, iteration_limit + 1):
            for row in range(rows):
                begin, end = row_start[row], row_start[row + 1]
                slot = U(0)
                for v in range(U(0), padded, step):
                    least, second, rest, sign = limit, limit, limit, zero
                    for edge in range(begin, end):
                        x = simd.load(posterior, U(column[edge]) * pitch + U(turn[edge] * frames) + v)
                        x = simd.subtract_saturated(x, simd.load(message, U(edge) * padded + v))
                        simd.store(incoming, slot, x)
                        slot += step
                        sign = simd.xor(sign, x)
                        m = simd.magnitude(x)
                        above = simd.larger(least, m)
                        least = simd.smaller(least, m)
                        rest = _boxplus(rest, simd.larger(second, above), knee)
                        second = simd.smaller(second, above)
                    simd.store(state, v, least)
                    simd.store(state, v + padded, second)
                    simd.store(state, v + U(2) * padded, rest)
                    simd.store(state, v + U(3) * padded, sign)
                # Backwards: the last vector also writes into the repetition; the first overwrites that.
                for vector in range(padded // step):
                    v = padded - step * U(vector + 1)
                    least, second = simd.load(state, v), simd.load(state, v + padded)
                    rest = simd.load(state, v + U(2) * padded)
                    sign = simd.load(state, v + U(3) * padded)
                    to_least, to_second = _boxplus(rest, second, knee), _boxplus(rest, least, knee)
                    to_others = _boxplus(to_least, least, knee)
                    slot = v * U(end - begin)
                    for edge in range(begin, end):
                        x = simd.load(incoming, slot)
                        slot += step
                        m = simd.magnitude(x)
                        y = simd.where_equal(m, second, to_second, to_others)
                        y = simd.where_equal(m, least, to_least, y)
                        y = simd.negate_where(y, simd.xor(sign, x))
                        simd.store(message, U(edge) * padded + v, y)
                        at = U(column[edge]) * pitch + v
                        x = simd.add_saturated(x, y)
                        simd.store(posterior, at, x)
                        simd.store(posterior, at + lanes, x)

            if not early_stop and iteration < iteration_limit:
                continue
            failed[:] = 0
            for row in range(rows):
                for v in range(U(0), padded, step):
                    bad, sign = simd.load(failed, v), zero
                    for edge in range(row_start[row], row_start[row + 1]):
                        x = simd.load(posterior, U(column[edge]) * pitch + U(check_turn[edge] * frames) + v)
                        sign = simd.xor(sign, x)
                        bad = simd.either(bad, simd.is_zero(x))
                    simd.store(failed, v, simd.either(bad, sign))
                if row == 0 or row == rows - 1:  # early exit: usually all unfinished frames fail row 0
                    failing = 0
                    for f in range(here):
                        good[f] = not ok[group + f] and _none_negative(failed, f, frames, z)
                        failing += not ok[group + f] and not good[f]
                    if failing == unfinished:
                        break
            for f in range(here):
                block = group + f
                if not ok[block]:
                    iterations[block] = iteration
                    ok[block] = good[f]
                    unfinished -= good[f]
                    if good[f] or iteration == iteration_limit:
                        for c in range((bits.shape[1] + z - 1) // z):
                            first = U(c) * pitch
                            decided = bits[block, c * z : (c + 1) * z]
                            _decide(posterior[first : first + lanes], rotation[c], z, f, frames, decided)
            if unfinished == 0:
                break
    return valid


@compiled(boundscheck=False, error_model="numpy")
@typing.no_type_check
def _round(soft, scale, limit, rounded):
    """Quantise LLRs to 8 bits; returns False if a value is NaN."""
    nan = False
    for i in range(len(soft)):
        x = soft[i] * scale
        nan |= x != x
        rounded[i] = np.int8(np.rint(min(max(x, -limit), limit)))
    return not nan


@compiled(boundscheck=False)
@typing.no_type_check
def _interleave(rounded, shift, lanes):
    """Interleave frames: lanes[i * frames + f] = rounded[f, (i + shift) mod z].

    Constant strides are ten times as fast as a variable one.
    """
    frames, z = rounded.shape
    for begin, end, to in ((shift, z, 0), (0, shift, z - shift)):
        if frames == 1:
            row = rounded[0, begin:end]
            for i in range(end - begin):
                lanes[to + i] = row[i]
        elif frames == 2:
            a, b = rounded[0, begin:end], rounded[1, begin:end]
            pairs = lanes[2 * to :]
            for i in range(end - begin):
                pairs[2 * i] = a[i]
                pairs[2 * i + 1] = b[i]
        else:
            for f in range(frames):
                row = rounded[f, begin:end]
                for i in range(end - begin):
                    lanes[(to + i) * frames + f] = row[i]


@compiled(boundscheck=False)
@typing.no_type_check
def _decide(lanes, shift, z, f, frames, bits):
    """Hard decisions: bits[(i + shift) mod z] = 1 where lanes[i * frames + f] is negative.

    Lanes beyond the length of `bits` are ignored.
    """
    for begin, end, at in ((shift, len(bits), 0), (0, min(shift, len(bits)), z - shift)):
        row = lanes[at * frames + f :]
        if frames == 1:
            for i in range(end - begin):
                bits[begin + i] = row[i] < 0
        elif frames == 2:
            for i in range(end - begin):
                bits[begin + i] = row[2 * i] < 0
        else:
            for i in range(end - begin):
                bits[begin + i] = row[i * frames] < 0


@compiled(boundscheck=False)
@typing.no_type_check
def _none_negative(failed, f, frames, z):
    """Whether no check of a frame failed."""
    i = 0
    while i < z and failed[i * frames + f] >= 0:
        i += 1
    return i == z
