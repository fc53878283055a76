"""Training loop for all networks: wall-clock schedule, averaged weights, resumption, several processes."""

import csv
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from channels.streams import SharedStreams
from semcom import checkpoints
from semcom.errors import InvalidOption, MissingWeights, TrainingDiverged, reason_of
from semcom.files import replacing
from semcom.surroundings import library_defaults
from semcom.training.muon import Muon
from semcom.training.processes import Processes

Loss = Callable[[Any, Tensor, SharedStreams], Tensor]
Sampler = Callable[[int, torch.Generator], Tensor]
Scorer = Callable[[Any], float]

MAX_SKIPPED = 50  # steps in a row; a loss that is not finite so often does not recover
UNREADABLE = (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Duration, batch size and optimiser of a training run.

    The learning rate follows the clock, not the step count, so that a run takes the given time on any
    machine: a linear rise over `warmup`, then `learning_rate` * (1 + cos(pi * elapsed / seconds)) / 2.

    Args:
        seconds: Duration in wall-clock seconds, validation included, over all resumptions together.
        batch: Crops per step, over all processes together.
        learning_rate: Peak learning rate.
        warmup: Share of `seconds` over which the learning rate rises.
        clip: Largest gradient norm.
        ema_steps: Averaging length in steps of the weights that are validated and shipped; shorter at the
            start.
        validate_seconds: Seconds between two points of the curve, each of which is also a checkpoint.
        seed: Seed of crops and channel noise; the network comes initialised.
        patience: Stop after this many validations without a better score, and return the weights of the best
            one; the initial network counts as the first. None: train to the end of `seconds`.
        report_seconds: Seconds between two lines of progress in the log.
        optimizer: "adam", or "muon" for networks with wide convolutions.

    Raises:
        InvalidOption: Seconds, batch, learning rate or patience are not above 0, or not finite.
    """

    seconds: float
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.01
    clip: float = 1.0
    ema_steps: int = 1000
    validate_seconds: float = 120.0
    seed: int = 0
    patience: int | None = None
    report_seconds: float = 5.0
    optimizer: Literal["adam", "muon"] = "adam"

    def __post_init__(self) -> None:
        for name in ("seconds", "batch", "learning_rate", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InvalidOption(f"training with {name} = {value:g}: choose a number above 0")

    def learning_rate_at(self, elapsed: float) -> float:
        """Learning rate after some seconds of training.

        Args:
            elapsed: Seconds since the start, over all resumptions.

        Returns:
            Learning rate.
        """
        fraction = min(elapsed / self.seconds, 1.0)
        rise = min((fraction + 1e-3) / (self.warmup + 1e-3), 1.0)
        return self.learning_rate * rise * (1 + math.cos(math.pi * fraction)) / 2


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the training curve: step, seconds, loss, validation score and learning rate."""

    step: int
    seconds: float
    loss: float
    score: float
    learning_rate: float


@dataclass(eq=False)
class Training:
    """A training run that can stop at any moment and continue from its last checkpoint.

    Randomness comes from one generator per process whose state is part of the checkpoint, so that with an
    equal clock a resumed run equals an uninterrupted one. On a GPU, the forward pass runs in bfloat16 under
    autocast. A step whose loss or gradient is not finite is skipped. Ctrl-C and SIGTERM take effect at the
    end of a step, after a checkpoint. Progress goes to the log of this module: one line per validation as
    INFO, more as DEBUG.

    Under `accelerate launch` or torchrun, every process draws its share of the batch and gradients are
    averaged; the main process alone validates, writes and logs, and its clock counts. All processes use one
    `folder`. A checkpoint made with another optimiser provides everything except the optimiser's state.

    Args:
        network: Network on its device; trained in place.
        loss: Loss of the network on a batch; the third argument is the randomness of channels.
        sample: Draws a batch, for instance `Crops.sample`.
        score: Validation score, larger is better; called with the averaged weights in evaluation mode.
        settings: Duration, batch size and optimiser.
        folder: Folder of `checkpoint.pt` and `curve.csv`; an existing checkpoint is resumed.
        clock: Monotonic clock in seconds.

    Raises:
        MissingWeights: The checkpoint in the folder is damaged, or of another network.
        InvalidOption: The batch cannot be shared evenly by the processes.
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
        self.processes = Processes.launched(device)
        self.batch = self.processes.share(self.settings.batch)
        self.processes.copy_from_main(self.network.state_dict().values())
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        self.best: dict[str, Tensor] | None = None
        self.optimizer = self._new_optimizer()
        seed = self.settings.seed + 1_000_003 * self.processes.rank  # torch keeps 32 bits of a seed
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step = 0
        self.skipped = 0
        self.elapsed = 0.0
        self.losses: list[Tensor] = []
        on_gpu = device.type == "cuda"
        self.autocast = torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext()
        self.checkpoint = Path(self.folder) / "checkpoint.pt"
        if self.checkpoint.is_file():
            self._load()

    def _new_optimizer(self) -> torch.optim.Optimizer:
        weights, learning_rate = self.network.parameters(), self.settings.learning_rate
        if self.settings.optimizer == "muon":
            return Muon(weights, learning_rate)
        return torch.optim.Adam(weights, learning_rate, fused=True)

    @library_defaults()
    def run(self) -> nn.Module:
        """Train until the time is up or the patience is exhausted.

        Returns:
            The network with averaged weights.

        Raises:
            TrainingDiverged: Loss or gradient were not finite in 50 steps in a row, or a score is NaN.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the next run with this folder continues.
        """
        settings = self.settings
        started = self.clock() - self.elapsed
        streams = SharedStreams(self.generator, self.batch)
        skipped_in_a_row = 0
        reported = self.elapsed
        if settings.patience is not None and not self.curve:
            self._validate(started)
        with _stop_signals() as stop_signals:
            while self.elapsed < settings.seconds and not self._patience_ended():
                learning_rate = settings.learning_rate_at(self.elapsed)
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate
                batch = self.sample(self.batch, self.generator)
                with self.autocast:
                    loss = self.loss(self.network, batch, streams)
                self.optimizer.zero_grad()
                loss.backward()
                if self._descend(loss.detach()):
                    skipped_in_a_row = 0
                else:
                    skipped_in_a_row += 1
                    if skipped_in_a_row == MAX_SKIPPED:
                        raise TrainingDiverged(
                            f"loss or gradient not finite in {MAX_SKIPPED} steps in a row, after step "
                            f"{self.step}; lower the learning rate of {settings.learning_rate:g}"
                        )
                stop = self._tick(started, bool(stop_signals))
                due = (self.curve[-1].seconds if self.curve else 0.0) + settings.validate_seconds
                if self.elapsed >= min(due, settings.seconds):
                    self._validate(started)
                    reported = self.elapsed
                elif self.elapsed >= reported + settings.report_seconds:
                    reported = self.elapsed
                    self._log(logging.DEBUG)
                if stop:
                    self._save()
                    raise KeyboardInterrupt
        if not self.curve:  # of a run whose time was up before its first validation
            self._validate(started)
        if self.best is not None:
            self.average.load_state_dict(self.best)
        return self.average

    @property
    def result(self) -> Point:
        """Point of the training curve whose weights `run` returns."""
        return self.curve[-1] if self.best is None else max(self.curve, key=lambda point: point.score)

    def _descend(self, loss: Tensor) -> bool:
        """Take one step along the gradients, averaged over the processes; returns False if it was skipped."""
        weights = [p for p in self.network.parameters() if p.requires_grad]
        if self.processes.count > 1:  # a weight unused by one process may have a gradient in another
            for weight in weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
        loss = loss.float()
        self.processes.average([loss, *(w.grad for w in weights if w.grad is not None)])
        norm = nn.utils.clip_grad_norm_(weights, self.settings.clip)
        if not bool(loss.isfinite() & norm.isfinite()):
            self.skipped += 1
            return False
        self.optimizer.step()
        self.step += 1
        self._update_average()
        self.losses.append(loss)
        return True

    def _tick(self, started: float, stop: bool) -> bool:
        """Read the clock of the main process; whether some process was told to stop."""
        now = self.clock() - started if self.processes.rank == 0 else 0.0
        self.elapsed, stops = self.processes.total(now, float(stop))
        return stops > 0

    def _validate(self, started: float) -> None:
        """Add one point to the curve, and write a checkpoint."""
        score = self.score(self.average) if self.processes.rank == 0 else 0.0
        (score,) = self.processes.total(score)
        if math.isnan(score):
            raise TrainingDiverged(
                f"score not a number after step {self.step}; lower the learning rate of "
                f"{self.settings.learning_rate:g}, and go on from the last checkpoint, if there is one"
            )
        self._tick(started, False)
        if self.settings.patience is not None and all(score > point.score for point in self.curve):
            self.best = {key: value.clone() for key, value in self.average.state_dict().items()}
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self.curve.append(Point(self.step, self.elapsed, self._mean_loss(), score, learning_rate))
        self.losses.clear()
        self._log(logging.INFO)
        self._save()

    def _patience_ended(self) -> bool:
        if self.settings.patience is None or not self.curve:
            return False
        scores = [point.score for point in self.curve]
        return len(scores) - 1 - scores.index(max(scores)) >= self.settings.patience

    def _mean_loss(self) -> float:
        return float(torch.stack(self.losses).mean()) if self.losses else math.nan

    def _log(self, level: int) -> None:
        if self.processes.rank == 0 and logger.isEnabledFor(level):
            loss = self._mean_loss() if self.losses else self.curve[-1].loss if self.curve else math.nan
            parts = [f"step {self.step}"]
            parts += [] if math.isnan(loss) else [f"loss {loss:.5g}"]
            parts += [f"score {self.curve[-1].score:.3f}"] if self.curve else []
            parts += [f"{max(self.settings.seconds - self.elapsed, 0):.0f} s left"]
            parts += [f"{self.skipped} steps skipped"] if self.skipped else []
            logger.log(level, ", ".join(parts))

    def _update_average(self) -> None:
        # The window grows with the run, so that early averages do not remember the initial weights.
        weight = 1 / min(self.settings.ema_steps, 1 + self.step / 10)
        with torch.no_grad():
            for kept, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(current, weight)
            for kept, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
                kept.copy_(current)

    def _save(self) -> None:
        generators = self.processes.gather(self.generator.get_state())
        if self.processes.rank > 0:
            return
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": self.settings.optimizer,
            "generator": generators[0],
            "generators": generators,
            "step": self.step,
            "skipped": self.skipped,
            "elapsed": self.elapsed,
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "curve": [asdict(point) for point in self.curve],
        }
        with replacing(self.checkpoint) as part:
            torch.save(state, part)
        with replacing(self.checkpoint.with_name("curve.csv")) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=[column.name for column in fields(Point)])
            writer.writeheader()
            writer.writerows(state["curve"])

    def _load(self) -> None:
        device = self.generator.device
        try:
            state = checkpoints.load(self.checkpoint, device)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self._load_optimizer(state["optimizer"], state.get("optimizer_name", "adam"))
            generators = state.get("generators", state["generator"][None]).cpu()
            if self.processes.rank < len(generators):
                # a copy, since set_state of torch 2.15 reads a view from the start of its storage
                self.generator.set_state(generators[self.processes.rank].clone())
            self.step, self.elapsed = state["step"], state["elapsed"]
            self.skipped, self.losses = state.get("skipped", 0), list(state.get("losses", []))
            self.best = state.get("best") if self.settings.patience is not None else None
            self.curve = [Point(**point) for point in state["curve"]]
        except UNREADABLE as error:
            raise MissingWeights(
                f"{self.checkpoint} is not a checkpoint of this network ({reason_of(error)}); "
                "delete it to start anew, or choose another folder"
            ) from None

    def _load_optimizer(self, state: dict[str, Any], name: str) -> None:
        """Load the optimiser's state, or log that it starts anew if the checkpoint has another one."""
        if name == self.settings.optimizer:
            self.optimizer.load_state_dict(state)
        elif self.processes.rank == 0:
            logger.warning(f"{self.checkpoint} was made with {name}; {self.settings.optimizer} starts anew")


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Context in which Ctrl-C and SIGTERM are recorded in a list; a second signal has its usual effect."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to that one only
        yield seen
        return

    def put_down(number: int, frame: object) -> None:
        seen.append(number)
        restore()

    former = {number: signal.signal(number, put_down) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    try:
        yield seen
    finally:
        restore()
