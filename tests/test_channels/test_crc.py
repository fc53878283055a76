import numpy as np
import pytest
import torch

from channels.errors import ChannelError
from channels.fec.crc import CRC, CRC6, CRC11, CRC16, CRC24A, CRC24B, CRC24C

ALL = (CRC24A, CRC24B, CRC24C, CRC16, CRC11, CRC6)


def as_bits(message: bytes) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(np.frombuffer(message, dtype=np.uint8)))[None]


def long_division(crc: CRC, bits: list[int]) -> list[int]:
    """Schoolbook division of bits(D) D^L by g(D)."""
    generator = [1, *((crc.polynomial >> i) & 1 for i in range(crc.length - 1, -1, -1))]
    rest = bits + [0] * crc.length
    for i in range(len(bits)):
        if rest[i]:
            for j, g in enumerate(generator):
                rest[i + j] ^= g
    return rest[len(bits) :]


@pytest.mark.parametrize(
    ("crc", "check_value"),
    [(CRC24A, 0xCDE703), (CRC24B, 0x23EF52), (CRC16, 0x31C3)],  # CRC-24/LTE-A, CRC-24/LTE-B, CRC-16/XMODEM
)
def test_catalogue_check_values(crc: CRC, check_value: int) -> None:
    parity = crc.parity(as_bits(b"123456789"))[0].tolist()
    assert int("".join(map(str, parity)), 2) == check_value


# TS 38.212, 5.1, as written there: exponents of each generator polynomial
@pytest.mark.parametrize(
    ("crc", "exponents"),
    [
        (CRC24A, (24, 23, 18, 17, 14, 11, 10, 7, 6, 5, 4, 3, 1, 0)),
        (CRC24B, (24, 23, 6, 5, 1, 0)),
        (CRC24C, (24, 23, 21, 20, 17, 15, 13, 12, 8, 4, 2, 1, 0)),
        (CRC16, (16, 12, 5, 0)),
        (CRC11, (11, 10, 9, 5, 0)),
        (CRC6, (6, 5, 0)),
    ],
)
def test_polynomials(crc: CRC, exponents: tuple[int, ...]) -> None:
    assert crc.length == exponents[0]
    assert crc.polynomial == sum(1 << e for e in exponents[1:])


@pytest.mark.parametrize("crc", ALL)
@pytest.mark.parametrize("length", [1, 5, 64, 777])
def test_parity_is_the_remainder(crc: CRC, length: int) -> None:
    bits = torch.randint(0, 2, (4, length), dtype=torch.uint8)
    expected = [long_division(crc, word.tolist()) for word in bits]
    assert crc.parity(bits).tolist() == expected


@pytest.mark.parametrize("crc", ALL)
def test_bursts_up_to_the_length_are_found(crc: CRC) -> None:
    word = crc.attach(torch.randint(0, 2, (1, 200), dtype=torch.uint8))
    assert crc.check(word).all()
    for burst in (1, 2, crc.length):
        for start in range(0, word.shape[1] - burst, 7):
            hurt = word.clone()
            hurt[:, start] ^= 1
            hurt[:, start + burst - 1] ^= 1 if burst > 1 else 0
            assert not crc.check(hurt).any()


def test_long_words() -> None:
    bits = torch.randint(0, 2, (1, 10**5), dtype=torch.uint8)
    word = CRC24A.attach(bits)
    assert CRC24A.check(word).all()
    word[0, 12345] ^= 1
    assert not CRC24A.check(word).any()


def test_too_short() -> None:
    with pytest.raises(ChannelError, match="10 bits cannot hold a CRC of 24"):
        CRC24A.check(torch.zeros(1, 10, dtype=torch.uint8))
