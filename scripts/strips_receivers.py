"""Before and after: what arrived of each Kodak picture, and what receivers with a prior make of it.

Run:     TORCH_HOME=../shared/torch-home python scripts/strips_receivers.py
Cost:    about 4 minutes of one core
Expect:  see results/strips_receivers/README.md, which says what is wrong with them

One strip per picture: the centre crop of 256x256, what DeepJSCC shows of it at rho = 1/192 and 5 dB (AWGN),
what its decoder tuned to LPIPS shows, and refined pictures; below each the magnified error.
"""

import argparse
from io import BytesIO
from pathlib import Path

from semcom import names
from semcom.budget import Budget
from semcom.data import centre, load_folder
from semcom.experiment import run_script, write
from semcom.strips import image_strip
from semcom.sweep import noise_streams

SCHEMES = ("deepjscc", "deepjscc-perceptual", "deepjscc+diffpir:8", "avif+ldpc:csit-average+diffpir:8")
CHANNEL = "awgn"
SIDE = 256


def main() -> None:
    """Parse, send, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/strips_receivers"))
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--rho", default="1/192")
    parser.add_argument("--snr", type=float, default=5.0, help="dB")
    arguments = parser.parse_args()
    schemes = [names.scheme(name) for name in arguments.schemes.split(",")]
    metrics = names.default_metrics().metrics
    shown = [metric for metric in metrics if metric.name in ("psnr_db", "lpips_squeeze")]
    for whole in load_folder(arguments.data):
        item = centre(whole, SIDE)
        budget = Budget.from_rho(arguments.rho, item.x.numel())
        rng = noise_streams(item.id, 0)
        channel = names.channel(CHANNEL)
        sent = {s.name: s.transmit(item.x, budget, channel, arguments.snr, rng) for s in schemes}
        pictures = {name: outcome.x_hat for name, (outcome,) in sent.items()}
        captions = {
            name: ", ".join(f"{metric.name} {metric(x, item.x):.3g}" for metric in shown)
            for name, x in pictures.items()
        }
        encoded = BytesIO()
        image_strip(item.x, pictures, captions, tile=SIDE).save(encoded, "JPEG", quality=85)
        write(arguments.out / f"{whole.id.rpartition('-')[0] or whole.id}.jpg", encoded.getvalue())
    print(f"strips in {arguments.out}")


if __name__ == "__main__":
    run_script(main)
