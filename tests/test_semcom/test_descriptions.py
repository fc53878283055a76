"""Every listed scheme is described from the parts of its name, and no other name pretends to be known."""

import pytest

from semcom import names
from semcom.names.descriptions import OUTSIDE, described

SAID = {
    "avif+ldpc:csit-average": "AVIF, sent by LDPC and QAM, both chosen by the average SNR",
    "jpeg-file+ldpc:mcs0": (
        "JPEG in a whole file, sent by LDPC and QPSK at code rate 0.03 whatever the channel"
    ),
    "zlib+packets:512:mcs4-mcs9": (
        "DEFLATE, sent in packets of 512 channel uses with a CRC each, QPSK at code rate 0.19, then "
        "16-QAM at code rate 0.42 whatever the channel"
    ),
    "avif+ideal:csit-average": "AVIF, over an error-free link at channel capacity: a bound, not a scheme",
    "hybrid:avif:mcs9:softcast-residual:0.6": (
        "AVIF over the digital link in 60% of the channel uses, softcast of what it leaves as analog symbols "
        "in the rest"
    ),
    "softcast+ddrm:8:0.5": (
        "SoftCast: scaled DCT coefficients as symbols, LMMSE estimation at the receiver; then refined by a "
        "diffusion prior in 8 steps, knob 0.5 (0: as received, 1: a sample) (DDRM: restoration per "
        "singular direction)"
    ),
    "softcast+mine": (
        "SoftCast: scaled DCT coefficients as symbols, LMMSE estimation at the receiver; then mine, a "
        "receiver of another package"
    ),
    "mine+ldpc:mcs0": (
        "codec mine of another package, sent by LDPC and QPSK at code rate 0.03 whatever the channel"
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_parts_are_put_into_words(name: str) -> None:
    assert described(name) == SAID[name]


def test_every_listed_scheme_is_described() -> None:
    about = {listed.name: described(listed.name) for listed in names.schemes()}
    assert not [name for name, line in about.items() if OUTSIDE in line or "of another package" in line]


@pytest.mark.parametrize(
    "name", ["", "mine", "a+b+c", "avif", "hybrid", "x+ldpc:mcs99", "<script>", "+", "a:b+"]
)
def test_no_name_is_too_odd(name: str) -> None:
    assert described(name)
