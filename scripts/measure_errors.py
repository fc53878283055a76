"""Measure what decoders do to pictures, on validation photographs: the table that generative receivers read.

Run:     python scripts/measure_errors.py
         python scripts/measure_errors.py --codes avif,webp --out more.json
Cost:    about 18 minutes of one core for 40 photographs and all codes
Expect:  gains near 1 and noise far below the signal at low frequencies, gain 0 where nothing was sent

Joint codes are measured over AWGN per channel uses and SNR; on other channels the receiver looks up the SNR
of equal capacity. Codecs are measured per bits, whatever link carries them. `<code>/s` codes block means of
s x s pixels in place of the picture, `<code>-noised` the picture with noise, as hybrids send it. Test images
are never looked at.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from channels import AWGN, NamedStreams, transmit
from semcom import names
from semcom.analog import Analog
from semcom.calibration import TABLE, ErrorModel, ErrorTable, write_tables
from semcom.codecs.codec import SourceCodec, fit
from semcom.data import Item, load_image, picture_files
from semcom.errors import BudgetTooSmall, SemcomError
from semcom.experiment import run_script
from semcom.jscc.jscc import DeepJSCC
from semcom.names.schemes import SCHEMES
from semcom.operators import BlockMean

JOINT = ("deepjscc", "deepjscc-perceptual", "deepjscc/2", "deepjscc/4", "deepjscc-noised")
CODES = (*JOINT, "avif", "hevc-intra", "jpeg", "jpeg2000", "learned", "webp")
INVERSE_RHO = (1536, 768, 384, 192, 96, 48, 24, 12, 6)
SMALL_INVERSE_RHO = (192, 96, 48, 24, 12, 6, 3)  # of pictures of a sixteenth of the pixels
SNR_DB = (-15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
NOISED_INVERSE_RHO = (768, 384, 192, 96, 48, 24)
NOISED_SNR_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
NOISE = (0.0, 0.05, 0.1, 0.2)  # standard deviation, of pictures in [0, 1]
BITS = tuple(2.0**g for g in (-6, -5, -4, -3, -2, -1, 0, 1))  # per value
LEAST_PICTURES = 8


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--codes", default=",".join(CODES))
    parser.add_argument("--photos", type=int, default=40, help="evenly spread over the folder")
    parser.add_argument("--side", type=int, default=256, help="of the centre crops, in pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    pictures = photographs(arguments.data, arguments.photos, arguments.side)
    tables: dict[str, ErrorTable] = {}
    with Progress(console=Console(stderr=True)) as bar:
        codes = arguments.codes.split(",")
        for code in bar.track(codes, description="measuring"):
            tables[code] = measured(code, pictures)
    about = f"scripts/measure_errors.py on {len(pictures)} crops of side {arguments.side}"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_tables(arguments.out, tables, about)
    print(f"{len(tables)} codes -> {arguments.out}")


def photographs(folder: Path, count: int, side: int) -> tuple[Item, ...]:
    """Centre crops of those that are large enough."""
    files = picture_files(folder)
    items = map(load_image, files[:: max(1, len(files) // count)])
    large = [item for item in items if min(item.x.shape[2:]) >= side][:count]
    crops = []
    for item in large:
        top, left = ((size - side) // 2 for size in item.x.shape[2:])
        crops.append(Item(item.id, item.x[:, :, top : top + side, left : left + side], item.modality))
    return tuple(crops)


def measured(code: str, pictures: Sequence[Item]) -> ErrorTable:
    """The table of one code."""
    name, _, size = code.partition("/")
    name, noised, _ = name.partition("-noised")
    if name in SCHEMES:
        transmission = names.scheme(name).transmission
        if not isinstance(transmission, Analog):
            raise SemcomError(f"{name} is no joint code; choose among {', '.join(JOINT)}")
        if noised:
            return measured_noised(transmission.network, pictures)
        return measured_joint(transmission.network, pictures, int(size or 1))
    return measured_codec(names.codec(name), pictures)


def measured_joint(network: DeepJSCC, pictures: Sequence[Item], size: int) -> ErrorTable:
    """Over channel uses per value and SNR, on AWGN; uses per value of what is coded."""
    reduced = [Item(i.id, BlockMean(size, *i.x.shape[2:]).A(i.x), i.modality) for i in pictures]
    grid = SMALL_INVERSE_RHO if size > 2 else INVERSE_RHO
    rows = [row for inverse_rho in grid for row in rows_over_snr(network, reduced, inverse_rho, SNR_DB)]
    table = torch.stack(rows).reshape(len(grid), len(SNR_DB), -1)
    return ErrorTable(("log2_uses_per_value", "snr_db"), (log_uses(grid), SNR_DB), table)


def measured_noised(network: DeepJSCC, pictures: Sequence[Item]) -> ErrorTable:
    """The same over the noise that the transmitter adds, too; errors are those of the picture without."""
    tables: list[Tensor] = []
    for noise in NOISE:
        rows = [
            row
            for inverse_rho in NOISED_INVERSE_RHO
            for row in rows_over_snr(network, pictures, inverse_rho, NOISED_SNR_DB, noise)
        ]
        tables.append(torch.stack(rows).reshape(len(NOISED_INVERSE_RHO), len(NOISED_SNR_DB), -1))
    grid = (log_uses(NOISED_INVERSE_RHO), NOISED_SNR_DB, NOISE)
    return ErrorTable(("log2_uses_per_value", "snr_db", "noise"), grid, torch.stack(tables, 2))


@torch.no_grad()
def rows_over_snr(
    network: DeepJSCC,
    pictures: Sequence[Item],
    inverse_rho: int,
    snrs_db: Sequence[float],
    noise: float = 0.0,
) -> list[Tensor]:
    """The rows of one bandwidth ratio."""
    pairs: dict[float, list[tuple[Tensor, Tensor]]] = {snr_db: [] for snr_db in snrs_db}
    for item in pictures:
        rng = NamedStreams(0, (item.id,))
        noised = item.x + noise * rng.normal("transmit-noise", tuple(item.x.shape[1:]))
        symbols = network.encode(noised, max(2, item.x.numel() // inverse_rho), None)
        for snr_db in snrs_db:
            received = transmit(AWGN(), symbols, snr_db, rng.fork("channel"))
            pairs[snr_db].append((network.decode(received, tuple(item.x.shape)), item.x))
    return [ErrorModel.fit(pairs[snr_db]).row for snr_db in snrs_db]


def log_uses(inverse_rho: Sequence[int]) -> tuple[float, ...]:
    """Channel uses per value in log2."""
    return tuple(-math.log2(inverse) for inverse in inverse_rho)


def measured_codec(codec: SourceCodec, pictures: Sequence[Item]) -> ErrorTable:
    """Over bits per value; budgets that most pictures do not fit into are left out."""
    grid: list[float] = []
    rows: list[Tensor] = []
    for bits in BITS:
        pairs: list[tuple[Tensor, Tensor]] = []
        spent = 0.0
        for item in pictures:
            try:
                fitted = fit(codec, item.x, int(bits * item.x.numel()))
            except BudgetTooSmall:
                continue
            pairs.append((fitted.decoded, item.x))
            spent += math.log2(8 * len(fitted.payload) / item.x.numel())
        if len(pairs) >= LEAST_PICTURES and (not grid or spent / len(pairs) > grid[-1] + 0.1):
            grid.append(spent / len(pairs))
            rows.append(ErrorModel.fit(pairs).row)
    return ErrorTable(("log2_bits_per_value",), (tuple(grid),), torch.stack(rows))


if __name__ == "__main__":
    run_script(main)
