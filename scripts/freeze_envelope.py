"""Freeze the digital envelope: the best codec and code rate per channel, SNR and rho on validation photos.

Run:     python scripts/freeze_envelope.py --data ../shared/data/photos/val --out semcom/tables/envelope.json
Cost:    about 20 minutes of one core for 8 photographs and five codecs
Expect:  HEVC intra at most points, AVIF or JPEG 2000 where bits abound; on AWGN 16-QAM at 5 dB, 256 at 20 dB

The choice rests on the codecs' PSNR on the photographs and on the predicted payload failure (`channels.mcs`).
Test images are never looked at. The file that is written is the one `envelope` schemes read.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from rich.progress import Progress

from semcom import names
from semcom.data import load_image
from semcom.envelope import freeze
from semcom.files import write_whole


def main() -> None:
    """Parse, freeze, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--out", type=Path, default=Path("semcom/tables/envelope.json"))
    parser.add_argument("--photos", type=int, default=8, help="evenly spread over the folder")
    parser.add_argument("--codecs", default="avif,hevc-intra,jpeg2000,webp,learned")
    parser.add_argument("--channels", default="awgn,rayleigh:64")
    parser.add_argument("--snr", default="-5,-2,0,2,4,5,6,8,10,12,14,15,16,18,20")
    parser.add_argument("--rho", default="1/6,1/12,1/24,1/48,1/96,1/192")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    files = sorted(arguments.data.iterdir())
    files = files[:: max(1, len(files) // arguments.photos)][: arguments.photos]
    with Progress() as bar:
        task = bar.add_task("freezing", total=1.0)
        choices = freeze(
            [names.codec(name) for name in arguments.codecs.split(",")],
            [names.channel(name) for name in arguments.channels.split(",")],
            [float(snr) for snr in arguments.snr.split(",")],
            arguments.rho.split(","),
            [load_image(file) for file in files],
            lambda share: bar.update(task, completed=share),
        )
    table = {
        "data": [file.name for file in files],
        "codecs": arguments.codecs.split(","),
        "choices": [asdict(choice) for choice in choices],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, json.dumps(table, indent=1) + "\n")
    print(f"{len(choices)} choices -> {arguments.out}")


if __name__ == "__main__":
    main()
