"""One list per interface; every contract test runs over all of it."""

from channels import AWGN, JakesFading, RayleighBlockFading, RicianBlockFading

CHANNELS = (
    AWGN(),
    RayleighBlockFading(1),
    RayleighBlockFading(24),
    RicianBlockFading(16, 6.0),
    JakesFading(0.01),
)
