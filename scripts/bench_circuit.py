"""Time of the familiarity circuit on one core: one epoch of noise association, and one response.

Run:     OMP_NUM_THREADS=1 python scripts/bench_circuit.py
Cost:    a minute of one core
Expect:  results/familiarity/bench.json; an epoch of 64 channels within four minutes

An epoch has 155 trials of 300 ms in steps of 1 ms. The stimuli are sparse codes of the photographs that are
installed with scikit-image, with noise. Times are CPU times, without those of compilation.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from semcom.circuit.circuit import respond, train_epoch, untrained
from semcom.circuit.familiarity import CONTRAST, thumbnail
from semcom.circuit.filters import filters, sparse_code
from semcom.circuit.protocol import associate, association_trials, noisy_versions
from semcom.data import sample_photos
from semcom.experiment import run_script, write
from semcom.provenance import environment


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/familiarity/bench.json"))
    parser.add_argument("--trials", type=int, default=155)
    a = parser.parse_args()
    photos = [thumbnail(item.x) for item in sample_photos()]
    pictures = np.array([np.clip(0.5 + small, 0, 1) for small in photos if small is not None])
    noisy = noisy_versions(np.concatenate([pictures, pictures[:1, ::-1]]))
    rows = []
    for channels in (32, 64):
        codes = sparse_code(noisy, bank=filters()[:channels])
        circuit = untrained(8, 8, channels)
        (start,) = associate(circuit, codes[:, :, :1], 0)  # compiles the kernels too
        trials = association_trials(codes, 0)
        train_epoch(circuit, start.thresholds, trials[:1], frame_ms=1)
        before = time.process_time()
        trained, _ = train_epoch(circuit, start.thresholds, trials[: a.trials])
        seconds = (time.process_time() - before) * len(trials) / len(trials[: a.trials])
        before = time.process_time()
        respond(trained, codes[:, 1, :8].reshape(-1, codes.shape[-1]))
        each = (time.process_time() - before) / (8 * len(codes))
        rows.append(
            {
                "channels": channels,
                "cells": circuit.cells,
                "epoch_seconds": round(seconds, 2),
                "steps": 300 * len(trials),
                "response_seconds": round(each, 4),
                "contrast": CONTRAST,
            }
        )
        print(json.dumps(rows[-1]))
    write(a.out, json.dumps({"rows": rows, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
