"""One training loop for every network: wall-clock schedule, averaged weights, resume."""

import csv
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from channels.streams import SharedStreams

Loss = Callable[[Any, Tensor, SharedStreams], Tensor]
Sampler = Callable[[int, torch.Generator], Tensor]
Scorer = Callable[[Any], float]


@dataclass(frozen=True)
class Settings:
    """How long and how hard to train.

    The learning rate follows the clock, not the step count, so that a run takes the time it was given on any
    machine: a linear rise over `warmup`, then `learning_rate` * (1 + cos(pi * elapsed / seconds)) / 2.

    Args:
        seconds: Wall-clock length, validation included, over all resumptions together.
        batch: Crops per step.
        learning_rate: Peak of Adam's.
        warmup: Part of `seconds` over which the learning rate rises.
        clip: Largest gradient norm.
        ema_steps: Averaging length of the weights that are validated and shipped; shorter at the start.
        validate_seconds: Between two points of the curve, each of which is also a checkpoint.
        seed: Of crops and channel noise; the network comes initialised.
    """

    seconds: float
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.01
    clip: float = 1.0
    ema_steps: int = 1000
    validate_seconds: float = 120.0
    seed: int = 0

    def learning_rate_at(self, elapsed: float) -> float:
        """After so many seconds."""
        fraction = min(elapsed / self.seconds, 1.0)
        rise = min((fraction + 1e-3) / (self.warmup + 1e-3), 1.0)
        return self.learning_rate * rise * (1 + math.cos(math.pi * fraction)) / 2


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the training curve."""

    step: int
    seconds: float
    loss: float
    score: float
    learning_rate: float


@dataclass(eq=False)
class Training:
    """A run that can stop at any moment and go on from its last checkpoint.

    Randomness comes from one generator whose state is part of the checkpoint, so with an equal clock a
    resumed run equals an uninterrupted one. On a GPU the forward pass runs in bfloat16 under autocast.

    Args:
        network: Trained in place; on its device.
        loss: Of the network on a batch, the third argument being the randomness of channels.
        sample: Draws a batch, for instance `Crops.sample`.
        score: Validation, larger is better; sees the averaged weights in evaluation mode.
        settings: How long and how hard.
        folder: Of `checkpoint.pt` and `curve.csv`; an existing checkpoint is resumed.
        clock: Seconds, monotonic.
    """

    network: nn.Module
    loss: Loss
    sample: Sampler
    score: Scorer
    settings: Settings
    folder: Path
    clock: Callable[[], float] = time.monotonic
    curve: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        device = next(self.network.parameters()).device
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), self.settings.learning_rate, fused=True)
        self.generator = torch.Generator(device).manual_seed(self.settings.seed)
        self.step = 0
        self.elapsed = 0.0
        on_gpu = device.type == "cuda"
        self.autocast = torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext()
        self.checkpoint = Path(self.folder) / "checkpoint.pt"
        if self.checkpoint.is_file():
            self._load()

    def run(self) -> nn.Module:
        """Train until the time is up; returns the averaged network."""
        settings = self.settings
        started = self.clock() - self.elapsed
        streams = SharedStreams(self.generator, settings.batch)
        losses: list[Tensor] = []
        due = self.elapsed + settings.validate_seconds
        while self.elapsed < settings.seconds:
            learning_rate = settings.learning_rate_at(self.elapsed)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            batch = self.sample(settings.batch, self.generator)
            with self.autocast:
                loss = self.loss(self.network, batch, streams)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
            self.optimizer.step()
            self.step += 1
            self._update_average()
            losses.append(loss.detach())
            self.elapsed = self.clock() - started
            if self.elapsed >= min(due, settings.seconds):
                score = self.score(self.average)
                mean_loss = float(torch.stack(losses).mean())
                self.elapsed = self.clock() - started
                self.curve.append(Point(self.step, self.elapsed, mean_loss, score, learning_rate))
                self._save()
                losses.clear()
                due = self.elapsed + settings.validate_seconds
        return self.average

    def _update_average(self) -> None:
        # The window grows with the run, so that early averages do not remember the initial weights.
        weight = 1 / min(self.settings.ema_steps, 1 + self.step / 10)
        with torch.no_grad():
            for kept, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(current, weight)
            for kept, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
                kept.copy_(current)

    def _save(self) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "elapsed": self.elapsed,
            "curve": [asdict(point) for point in self.curve],
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)
        partial = self.checkpoint.with_name("curve.partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(state["curve"][0]))
            writer.writeheader()
            writer.writerows(state["curve"])
        os.replace(partial, self.checkpoint.with_name("curve.csv"))

    def _load(self) -> None:
        device = self.generator.device
        state = torch.load(self.checkpoint, map_location=device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.curve = [Point(**point) for point in state["curve"]]
