"""One list per interface; every contract test runs over all of it."""

from channels import AWGN

CHANNELS = (AWGN(),)
