"""Pictures that code to the very bytes that arrived: receivers behind JPEG, centre crops of Kodak.

Run:     TORCH_HOME=../shared/torch-home python scripts/consistency_jpeg.py
Cost:    see results/consistency/README.md; results are written at the end
Expect:  see results/consistency/README.md

JPEG's elementary stream over an error-free link at the capacity of AWGN at 10 dB, at three bandwidths. Beside
PSNR and LPIPS the coefficients, of a million, that are not where the bytes say: `outside_ppm` in floating
point (more than 1e-5 outside of [q - 1/2, q + 1/2] Delta, in units of pictures in [0, 1]), `recoded_ppm`
after rounding to 8 bits and coding again with the same tables.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from channels import Channel, Streams, transmit
from semcom import names
from semcom.budget import Budget
from semcom.cells import Cells
from semcom.codecs import Jpeg, Quality, StreamCodec
from semcom.data import Item, centre, load_folder
from semcom.errors import InvalidOption
from semcom.experiment import markdown_tables, run_script, write
from semcom.observation import Decoded, Observation
from semcom.provenance import environment
from semcom.scheme import Scheme
from semcom.sweep import noise_streams
from semcom.transmission import ChannelKnowledge, Genie

SOURCE = "jpeg+ideal:csit-average"
SCHEMES = tuple(
    SOURCE + receiver
    for receiver in (
        "",
        *(f"+{method}:8{knob}" for method in ("ddrm", "diffpir", "consistency") for knob in (":0.5", "")),
    )
)
CHANNEL, SNR_DB = "awgn", 10.0
RHO = ("1/48", "1/24", "1/12")
METRICS = ("psnr_db", "lpips_squeeze")
SHARES = ("outside_ppm", "recoded_ppm")
REACHED = 1e-5
SIDE = 256
CODEC = StreamCodec(Jpeg())


def measure(
    item: Item, rho: str, schemes: Sequence[Scheme], metrics: Sequence[str]
) -> Iterator[dict[str, object]]:
    """One row per receiver of the same delivery."""
    budget, rng = Budget.from_rho(rho, item.x.numel()), noise_streams(item.id, 0)
    channel, shape = names.channel(CHANNEL), tuple(item.x.shape)
    info, observation = observed(schemes[0], item, budget, channel, rng.fork("channel"))
    for scheme in schemes:
        x_hat = scheme.receiver(observation, shape, rng.fork("receiver"))
        x_hat = scheme.modality.cover(shape) if x_hat is None else x_hat
        yield {
            "scheme": scheme.name,
            "channel": channel.name,
            "rho": budget.rho,
            "snr_db": SNR_DB,
            "item": item.id,
            "outage": float(observation.shown is None),
            "bpp": info["payload_bits"] / (shape[2] * shape[3]),
            "scale": info["scale"],
            **{name: names.metric(name)(x_hat, item.x) for name in metrics},
            **shares(x_hat, observation),
        }


def observed(
    scheme: Scheme, item: Item, budget: Budget, channel: Channel, rng: Streams
) -> tuple[Mapping[str, float], Observation]:
    """What is sent of an item, in numbers, and what every receiver knows of it."""
    genie, uses = scheme.transmission, channel.data_uses(budget.channel_uses)
    if not isinstance(genie, Genie):
        raise InvalidOption(f"{scheme.name}: its link can fail; take one like {SOURCE}")
    whispered = genie.send_all(item.x, uses, ChannelKnowledge(channel, SNR_DB))
    received = [transmit(channel, part.sent.symbols, SNR_DB, rng) for part in whispered]
    (observation,) = genie.receive_knowing(whispered, received, tuple(item.x.shape), uses)
    return whispered[0].sent.info, observation


def shares(x_hat: torch.Tensor, observation: Observation) -> dict[str, float]:
    """Of coefficients that are not where the bytes say; none are if the bytes were lost."""
    if not observation.evidence:
        return dict.fromkeys(SHARES, 1e6)
    (decoded,) = observation.evidence
    assert isinstance(decoded, Decoded)
    assert decoded.payload is not None
    data = decoded.payload.data
    cells, again = (known(each, tuple(x_hat.shape)) for each in (data, coded_again(data, x_hat)))
    return {
        "outside_ppm": 1e6 * float((cells.outside(x_hat.double()) > REACHED).double().mean()),
        "recoded_ppm": 1e6 * float((cells.low != again.low).double().mean()),
    }


def coded_again(data: bytes, x_hat: torch.Tensor) -> bytes:
    """With the scale and the tables of these bytes."""
    return CODEC.encode(x_hat, Quality(scale=data[0], setting=data[1]))


def known(data: bytes, shape: tuple[int, ...]) -> Cells:
    """What the bytes say."""
    cells = CODEC.cells(data, shape)
    assert cells is not None
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, tabulate."""
    import pandas as pd

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/consistency"))
    parser.add_argument("--items", type=int, default=None, help="only the first so many")
    parser.add_argument("--schemes", default=",".join(SCHEMES), help="receivers of one transmission")
    parser.add_argument("--metrics", default=",".join(METRICS))
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    items = [centre(item, SIDE) for item in load_folder(a.data)[: a.items]]
    schemes, metrics = [names.scheme(name) for name in a.schemes.split(",")], a.metrics.split(",")
    frame = pd.DataFrame(row for item in items for rho in RHO for row in measure(item, rho, schemes, metrics))
    write(a.out / "items.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    rates = frame.groupby("rho")[["bpp", "scale"]].mean()
    heading = f"# {frame['item'].nunique()} pictures, centres of {SIDE}x{SIDE}\n\n"
    heading += "; ".join(
        f"rho = {rho}: {bpp:.3f} bits per pixel, reduced by {scale:.2f} on average"
        for rho, bpp, scale in zip(RHO, rates["bpp"], rates["scale"], strict=True)
    )
    text = f"{heading}.\n\n{markdown_tables(frame, (*metrics, *SHARES), 'rho')}"
    write(a.out / "table.md", text)
    write(a.out / "run.json", json.dumps(environment(), indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    run_script(main)
