"""Answers of two small networks of guided-diffusion, for tests to compare with.

Run:     python tests/golden/make_guided_diffusion.py   (its own environment: guided-diffusion-sdk == 1.0.0)
Writes:  guided_diffusion.npz beside this file

Weights are not kept: `filled` makes them of names and shapes, which are.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CASES = {
    "blocks": {
        "channel_mult": (1, 2, 2),
        "num_res_blocks": 1,
        "attention_resolutions": (2, 4),
        "out_channels": 6,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
    },
    "convolutions": {
        "channel_mult": (1, 1),
        "num_res_blocks": 2,
        "attention_resolutions": (1,),
        "out_channels": 3,
        "use_scale_shift_norm": False,
        "resblock_updown": False,
    },
}
WIDTH, SIDE = 64, 16
STEPS = (3, 700)


def filled(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Weights that any machine makes alike."""
    made = {}
    for k, (name, shape) in enumerate(sorted(shapes.items())):
        wave = torch.sin(1.7 * torch.arange(math.prod(shape), dtype=torch.float64) ** 1.1 + k)
        scale = 0.1 if len(shape) == 1 else math.prod(shape[1:]) ** -0.5
        lifted = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
        made[name] = (lifted + scale * wave).reshape(shape).float()
    return made


def seen() -> Tensor:
    """Input of both networks."""
    return (
        torch.from_numpy(filled({"x": [len(STEPS), 3 * SIDE * SIDE]})["x"].numpy()).reshape(
            len(STEPS), 3, SIDE, SIDE
        )
        * (3 * SIDE * SIDE) ** 0.5
    )


def main() -> None:
    """Run both."""
    from guided_diffusion.unet import UNetModel

    kept: dict[str, np.ndarray] = {}
    for case, options in CASES.items():
        network = UNetModel(
            image_size=SIDE, in_channels=3, model_channels=WIDTH, num_head_channels=64, **options
        ).eval()
        shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
        network.load_state_dict(filled(shapes))
        with torch.no_grad():
            kept[f"{case}/answer"] = network(seen(), torch.tensor(STEPS)).numpy()
        kept[f"{case}/shapes"] = np.array(json.dumps(shapes))
    np.savez_compressed(Path(__file__).with_name("guided_diffusion.npz"), **kept)


if __name__ == "__main__":
    main()
