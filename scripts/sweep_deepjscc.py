"""What the adaptive DeepJSCC bears on Kodak at rho = 1/48: wrong SNRs, fading, estimated channels.

Run:     python scripts/sweep_deepjscc.py
Cost:    see results/sweep_deepjscc/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_deepjscc/README.md

Mismatch: the transmitter's SNR, or the noise variance in which the receiver believes, is 5 dB too high or too
low. Channels: Rayleigh fading known to the receiver, Rayleigh fading estimated from pilots, OFDM over a
delay line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from jaxtyping import Complex, Float
from torch import Tensor

from channels import AWGN, Channel, Received, SnrDb, Streams
from semcom import zoo
from semcom.analog import Analog
from semcom.experiment import conduct, markdown_tables, parse_options, run_script, write, write_figure
from semcom.jscc.jscc import DeepJSCC
from semcom.plots import metric_vs_snr
from semcom.receivers import Direct
from semcom.scheme import Scheme

SCHEMES = ("softcast", "deepjscc", "deepjscc:csit-average")
CHANNELS = ("awgn", "rayleigh:64", "pilots:15/rayleigh:64", "ofdm:tdl-a:100:10")
SNR_DB = (0.0, 10.0, 20.0)
RHO = "1/48"
METRICS = ("psnr_db",)
OFF_DB = (-5.0, 5.0)


@dataclass(frozen=True)
class Misinformed:
    """A DeepJSCC whose transmitter takes the SNR for higher than it is by `off_db`."""

    network: DeepJSCC
    off_db: float

    @property
    def name(self) -> str:
        """As in figures."""
        return f"{self.network.name}:csit-off{self.off_db:+g}"

    def least_uses(self, shape: tuple[int, ...]) -> int:
        """Those of the network."""
        return self.network.least_uses(shape)

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], channel_uses: int, csit_snr_db: SnrDb | None
    ) -> Complex[Tensor, "batch uses"]:
        """For the wrong SNR."""
        return self.network.encode(
            x, channel_uses, None if csit_snr_db is None else csit_snr_db + self.off_db
        )

    def decode(self, received: Received, shape: tuple[int, ...]) -> Float[Tensor, "batch 3 height width"]:
        """By the network."""
        return self.network.decode(received, shape)


@dataclass(frozen=True)
class Misjudged:
    """AWGN whose receiver takes the SNR for higher than it is by `off_db`."""

    off_db: float
    channel: Channel = field(default=AWGN())

    @property
    def name(self) -> str:
        """As in figures."""
        return f"misjudged{self.off_db:+g}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """As without the error."""
        return self.channel.draw(uses, snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """With a wrong noise variance."""
        received = self.channel.apply(x, state)
        return replace(received, noise_var=received.noise_var * 10 ** (-self.off_db / 10))

    def overhead(self, uses: int) -> int:
        """None."""
        return 0

    def data_uses(self, total: int) -> int:
        """All."""
        return total


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    out = Path("results/sweep_deepjscc")
    options = parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=METRICS)
    sweep = options.sweep(CHANNELS, SNR_DB, (RHO,))
    network = cast(DeepJSCC, zoo.load("deepjscc"))
    misled = tuple(
        Scheme(
            f"deepjscc:csit-average{off_db:+g}dB", Analog(Misinformed(network, off_db), "average"), Direct()
        )
        for off_db in OFF_DB
    )
    conduct(sweep, options.out, options.workers)
    conduct(replace(sweep, schemes=misled, channels=(AWGN(),)), options.out, options.workers)
    misjudged = tuple(map(Misjudged, OFF_DB))
    records = conduct(replace(sweep, channels=misjudged), options.out, options.workers)
    heading = f"# Kodak at rho = {RHO}: wrong beliefs and other channels\n\n"
    write(options.out / "table.md", heading + markdown_tables(records, ["psnr_db"], "snr_db"))
    for channel in (*CHANNELS, *(one.name for one in misjudged)):
        stem = channel.replace("/", "-").replace(":", "-")
        write_figure(options.out / f"psnr_db_{stem}.svg", metric_vs_snr(records, "psnr_db", RHO, channel))
    print(f"{len(records)} records, table and figures in {options.out}")


if __name__ == "__main__":
    run_script(main)
