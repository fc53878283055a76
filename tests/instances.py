"""One list per interface; every contract test runs over all of it."""

from channels import AWGN, JakesFading, RayleighBlockFading, RicianBlockFading
from semcom.metrics.catalogue import ALL_METRICS

CHANNELS = (
    AWGN(),
    RayleighBlockFading(1),
    RayleighBlockFading(24),
    RicianBlockFading(16, 6.0),
    JakesFading(0.01),
)

METRICS = ALL_METRICS
