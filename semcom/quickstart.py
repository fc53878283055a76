"""Demonstration: digital schemes and joint coding at equal channel uses on two channels."""

from pathlib import Path

from semcom import names
from semcom.data import sample_photos
from semcom.engine import local_engine
from semcom.results import ResultStore
from semcom.summary import PICTURES, RECORDS, keep_originals, report
from semcom.sweep import Progress, Sweep, run

SCHEMES = (
    "avif+ldpc:csit-average",
    "avif+ldpc:csit-average+refine",
    "avif+ldpc:mcs8",
    "softcast",
    "deepjscc",
)
CHANNELS = ("awgn", "interleaved/rayleigh:64")
SNR_DB = (0.0, 5.0, 10.0, 20.0)
RHO = "1/12"
SIZE = (448, 304)  # 2^17 pixels, from which on `Avif` codes at full speed


def design() -> Sweep:
    """Sweep of the demonstration: four photographs of 448x304 pixels, five schemes, two channels, four SNRs.

    Returns:
        The sweep.
    """
    return Sweep(
        tuple(map(names.scheme, SCHEMES)),
        tuple(map(names.channel, CHANNELS)),
        sample_photos(SIZE),
        SNR_DB,
        (RHO,),
        names.default_metrics().metrics,
    )


SUMMARY = (
    "Four photographs cross AWGN and Rayleigh fading (constant over 64 channel uses, and interleaved for "
    "every scheme alike). All schemes may spend the same number of channel uses, 1/12 per pixel value; "
    "headers, CRC and side information are counted."
)
NOTES = (
    "csit-average: the transmitter knows the average SNR and picks modulation and code rate by it. The other "
    "schemes know nothing; avif+ldpc:mcs8 (16-QAM, rate 0.37) therefore falls off a cliff.",
    "Outage: the payload did not arrive. The picture shown is the mean colour of ImageNet, and stays in all "
    "means.",
    "avif+ldpc:csit-average+refine is the same picture, refined by one call of a network at the receiver: "
    "nearer to photographs (SWD), 0.8 to 1.1 dB further from this one (PSNR). Most is gained at low SNR.",
    "Four photographs show how things behave, not by how much: for figures to quote, sweep a data set.",
)


def quickstart(out: Path, workers: int = 1, progress: Progress | None = None) -> Path:
    """Run or resume the demonstration and write its report.

    Args:
        out: Folder of the results.
        workers: Number of local processes, 1..1024.
        progress: Callback after every batch.

    Returns:
        Path of the HTML report.

    Raises:
        StoreError: The folder cannot be written to, or is in use.
    """
    sweep = design()
    with ResultStore(out / RECORDS) as store:
        keep_originals(sweep.items, out)
        for _ in run(sweep, store, local_engine(workers), progress, out / PICTURES):
            pass
    return report(out, out / "report.html", "semcom quickstart", SUMMARY, NOTES)
