"""Training recipe of the frame predictor: first the mean, then a diffusion model of what the mean misses."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from channels.streams import SharedStreams
from semcom import zoo
from semcom.errors import InvalidOption, InvalidSource
from semcom.files import replacing
from semcom.metrics.perceptual import lpips_network
from semcom.modalities.video import VIDEO
from semcom.provenance import fingerprint
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import PHOTOS, VALIDATION, train_and_save, training_shard, validation_shard
from semcom.training.crops import Crops
from semcom.training.loop import Settings
from semcom.training.processes import own_device
from semcom.video.network import (
    AFTER,
    BEFORE,
    RESIDUAL_LIMIT,
    SLOTS,
    SMOOTHED_STD,
    FramePredictor,
    difference,
    known_slots,
    schedule,
    smoothed,
)
from semcom.video.network import moved as moved_blocks

CLIPS = Path("../shared/data/video/train")
"""Folder of training clips, where the recipe is given no other."""
CACHE = Path(".cache/sequences")
FRAMES = BEFORE + 1 + AFTER
COUNT, HELD_OUT, SIDE = 1600, 48, 128
FROM_CLIPS = 0.45
"""Share of the sequences cut out of clips; the others are photographs with synthetic motion."""
STILL = 0.15
"""Share of the moved photographs with a camera that stands still; an ellipse always moves in them."""
HELD_OUT_CLIPS = 3  # of the folder of clips, the last ones in alphabetical order: for the score alone
SHORT_SIDES = (144, 288)  # pixels, to which frames of clips are reduced
NOISE_STD = 0.3
"""Largest standard deviation of the noise that is added to the frames around, in [-1, 1]."""
LPIPS_DB = 25.0
"""Decibels of squared error that an LPIPS of 1 is worth to the mean."""
LEAST_ERROR = 1e-4
"""Added to squared errors in [-1, 1] before the logarithm; one level squared is 6e-5."""
LEAST_SPREAD = 0.004
"""Least offset of the size of what the mean misses, half a level of 8 bits."""
logger = logging.getLogger(__name__)


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    clips: Path = CLIPS,
    batch: int = 16,
    crop: int = 64,
    learning_rate: float = 1e-3,
    device: str = "cpu",
    start: Path | None = None,
    count: int = COUNT,
    mean_share: float = 0.45,
) -> float:
    """Train the predictor, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds, without the making of the sequences.
        out: Folder of `weights.safetensors`, and of a folder for each stage with its checkpoint and curve.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        clips: Folder of training clips.
        batch: Sequences per step.
        crop: Side of the windows in pixels, at most 128.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.
        start: Weights of a predictor to start from.
        count: Number of sequences.
        mean_share: Share of the duration that trains the mean, the rest the diffusion model; 0 keeps the mean
            of `start`.

    Returns:
        Validation score of the last stage in dB: signal-to-error ratio of v, mean over held-out sequences.

    Raises:
        InvalidSource: No clip or picture can be read.
        MissingWeights: `start` cannot be read.
        InvalidOption: `start` holds another network, or `mean_share` is not from 0 to 1.
    """
    if not 0 <= mean_share < 1:
        raise InvalidOption(f"a share of {mean_share:g} for the mean: choose 0 to below 1")
    device = own_device(device)
    sequences, held_out = Sequences.load(
        training_shard(photos), validation_shard(validation), clips, count, crop, device
    )
    lpips = lpips_network("squeeze", torch.device(device))
    torch.manual_seed(0)
    network = FramePredictor() if start is None else zoo.read_as(start, FramePredictor)
    value = math.nan
    for number, share in enumerate((mean_share, 1 - mean_share)):
        if share == 0:
            continue
        stage = Path(out) / ("mean", "diffusion")[number]
        done = stage / "weights.safetensors"
        if number == 1:
            network.scale.copy_(residual_scale(network.to(device), sequences))
            logger.info(f"size of what the mean misses: {network.scale.tolist()}")
        trained, still = network.mean_network, network.residual_network
        trained, still = (trained, still) if number == 0 else (still, trained)
        trained.requires_grad_(True)
        still.requires_grad_(False)
        settings = Settings(share * seconds, batch, learning_rate, 0.05, ema_steps=300)
        goal = (partial(mean_loss, lpips=lpips), velocity_loss)[number]
        scorer = (partial(mean_score, lpips=lpips), velocity_score)[number]

        def score(network: FramePredictor, scorer: Callable[..., float] = scorer) -> float:
            return scorer(network, held_out)

        value = train_and_save(network, goal, sequences.sample, score, settings, stage, device)
        network = zoo.read_as(done, FramePredictor)
    zoo.save(network, Path(out) / "weights.safetensors")
    return value


@dataclass(frozen=True, eq=False, slots=True)
class Sequences:
    """Short sequences of frames, from which windows are drawn.

    Args:
        pixels: 8-bit RGB frames behind each other, uint8 [count, side, side, 3 frames]; may be a memory map.
        size: Side of the windows in pixels.
    """

    pixels: UInt8[Tensor, "count side side channels"]
    size: int

    @classmethod
    def load(
        cls, photos: Path, validation: Path, clips: Path, count: int, size: int, device: str
    ) -> tuple["Sequences", "Sequences"]:
        """Load sequences for training and for the score, made once and kept beside each other.

        Args:
            photos: Shard of training pictures.
            validation: Shard of validation pictures.
            clips: Folder of training clips; the last three are for the score alone.
            count: Number of training sequences.
            size: Side of the windows in pixels.
            device: Device of the pixels.

        Returns:
            Training sequences, held-out sequences.

        Raises:
            InvalidSource: The folder has no clips.
        """
        files = sorted(path for path in clips.iterdir() if path.suffix in VIDEO.suffixes)
        if len(files) <= HELD_OUT_CLIPS:
            raise InvalidSource(f"{clips}: {len(files)} clips; at least {HELD_OUT_CLIPS + 1} are needed")
        found: list[Sequences] = []
        for shard, part, number in (
            (photos, files[:-HELD_OUT_CLIPS], count),
            (validation, files[-HELD_OUT_CLIPS:], HELD_OUT),
        ):
            pieces = Crops.load(shard, SIDE).pixels
            made_of = fingerprint(
                (pieces, [(f.name, f.stat().st_size) for f in part], number, FROM_CLIPS, STILL)
            )
            kept = CACHE / f"sequences-{made_of}.npy"
            if not kept.is_file():
                kept.parent.mkdir(parents=True, exist_ok=True)
                pixels = sequences_of(part, pieces, number)
                with replacing(kept) as whole, whole.open("wb") as file:
                    np.save(file, pixels)
            mapped = torch.from_numpy(np.lib.format.open_memmap(kept, mode="c"))
            found.append(cls(mapped.to(device), size))
        return found[0], found[1]

    def sample(self, batch: int, generator: torch.Generator) -> Float[Tensor, "batch channels size size"]:
        """Draw windows of random sequences, half of them mirrored, half of them played backwards.

        Args:
            batch: Number of windows.
            generator: Source of randomness.

        Returns:
            Frames behind each other in [-1, 1], [batch, 3 frames, size, size].
        """
        windows, _ = Crops(self.pixels, self.size).sample_of(batch, generator)
        backwards = torch.rand(batch, 1, 1, 1, generator=generator, device=windows.device) < 0.5
        turned = torch.cat(windows.chunk(FRAMES, 1)[::-1], 1)
        return 2 * torch.where(backwards, turned, windows) - 1

    def whole(self) -> Iterator[Float[Tensor, "batch channels size size"]]:
        """Windows in the middle of all sequences in [-1, 1], 16 at a time."""
        corner = (self.pixels.shape[1] - self.size) // 2
        place = slice(corner, corner + self.size)
        for part in self.pixels[:, place, place].split(16):
            yield part.permute(0, 3, 1, 2).float() / 127.5 - 1


def sequences_of(
    clips: list[Path], pieces: UInt8[Tensor, "pieces side side 3"], count: int
) -> UInt8[np.ndarray, "count side side channels"]:
    """Make sequences: some cut out of clips, the others photographs with synthetic motion.

    Args:
        clips: Files of clips, which give equal numbers.
        pieces: Pictures, uint8 [pieces, side, side, 3], sides of at least `SIDE`.
        count: Number of sequences.

    Returns:
        Frames behind each other, uint8 [count, `SIDE`, `SIDE`, 3 `FRAMES`].
    """
    rng = np.random.default_rng(0)
    made = np.empty((count, SIDE, SIDE, 3 * FRAMES), np.uint8)
    place = 0
    for number, path in enumerate(clips):
        until = round(FROM_CLIPS * count * (number + 1) / len(clips))
        frames = VIDEO.read(path).x.frames
        while place < until:
            made[place] = cut(frames, rng)
            place += 1
        logger.info(f"{path.name}: {place} of {count} sequences")
    for place in range(place, count):  # noqa: B020
        made[place] = moved(pieces, rng)
    return made


def cut(
    frames: UInt8[Tensor, "frames 3 height width"], rng: np.random.Generator
) -> UInt8[np.ndarray, "side side channels"]:
    """Cut one sequence out of a clip, at random size and speed; of three places, the one that moves most.

    Args:
        frames: Frames of the clip.
        rng: Source of randomness.

    Returns:
        Frames behind each other, uint8 [`SIDE`, `SIDE`, 3 `FRAMES`].
    """
    count, _, height, width = frames.shape
    stride = int(rng.integers(1, 3)) if count > 2 * FRAMES else 1
    first = int(rng.integers(0, max(count - stride * FRAMES, 0) + 1))
    taken = [min(first + stride * k, count - 1) for k in range(FRAMES)]
    short = min(height, width)
    factor = max(min(short, rng.uniform(*SHORT_SIDES)), SIDE) / short
    size = [max(SIDE, round(factor * side)) for side in (height, width)]
    reduced = nn.functional.interpolate(
        frames[taken].float(), size=size, mode="bicubic", antialias=True, align_corners=False
    )
    found: list[tuple[float, Tensor]] = []
    for _ in range(3):
        top, left = (int(rng.integers(0, side - SIDE + 1)) for side in size)
        window = reduced[:, :, top : top + SIDE, left : left + SIDE]
        found.append((float((window[1:] - window[:-1]).abs().mean()), window))
    chosen = max(found, key=lambda pair: pair[0])[1] if rng.random() < 0.7 else found[0][1]
    return _joined(chosen)


def moved(
    pieces: UInt8[Tensor, "pieces side side 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "side side channels"]:
    """Move a photograph: it pans, zooms and turns, mostly with an ellipse of another one that moves alone.

    Args:
        pieces: Pictures, uint8 [pieces, side, side, 3].
        rng: Source of randomness.

    Returns:
        Frames behind each other, uint8 [`SIDE`, `SIDE`, 3 `FRAMES`].
    """
    ground, thing = (_panned(pieces[rng.integers(len(pieces))], rng) for _ in range(2))
    still = rng.random() < STILL
    if still:
        ground = ground[:1].expand_as(ground)
    if still or rng.random() < 0.6:
        radius = rng.uniform(0.15, 0.5, 2)
        centre, speed = rng.uniform(-0.8, 0.8, 2), rng.normal(0, 0.06, 2)
        y, x = torch.meshgrid(*2 * (torch.linspace(-1, 1, SIDE),), indexing="ij")
        for k in range(FRAMES):
            place = centre + k * speed
            inside = ((x - place[0]) / radius[0]) ** 2 + ((y - place[1]) / radius[1]) ** 2
            mask = (8 * (1 - inside)).clamp(0, 1)
            ground = ground.clone() if k == 0 else ground
            ground[k] = mask * thing[k] + (1 - mask) * ground[k]
    return _joined(ground)


def _panned(piece: UInt8[Tensor, "side side 3"], rng: np.random.Generator) -> Tensor:
    """Frames of a picture seen by a moving camera, [frames, 3, SIDE, SIDE] in 0..255."""
    share = SIDE / piece.shape[0]
    zoom = share * math.exp(rng.uniform(0.0, 0.4))
    angle = rng.uniform(-0.3, 0.3)
    slow = rng.random() < 0.5  # half of the motion is slow
    turning = rng.normal(0, 0.01)
    zooming = rng.normal(0, 0.01)
    speed = rng.normal(0, 0.012 if slow else 0.05, 2)
    place = rng.uniform(-0.2, 0.2, 2)
    thetas: list[list[list[float]]] = []
    for k in range(FRAMES):
        t = k - FRAMES // 2
        size, turn = zoom * math.exp(zooming * t), angle + turning * t
        c, s = size * math.cos(turn), size * math.sin(turn)
        x, y = place + speed * t
        thetas.append([[c, -s, x], [s, c, y]])
    grid = nn.functional.affine_grid(
        torch.tensor(thetas, dtype=torch.float32), [FRAMES, 3, SIDE, SIDE], align_corners=False
    )
    picture = piece.permute(2, 0, 1)[None].float().expand(FRAMES, -1, -1, -1)
    return nn.functional.grid_sample(picture, grid, "bicubic", "reflection", align_corners=False)


def _joined(frames: Tensor) -> UInt8[np.ndarray, "side side channels"]:
    """[frames, 3, side, side] in 0..255 to uint8 [side, side, 3 frames]."""
    return frames.round().clamp(0, 255).byte().flatten(0, 1).permute(1, 2, 0).numpy()


def _condition(
    batch: Float[Tensor, "batch channels size size"], rng: SharedStreams
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target, frames around it with noise and gaps, which are known, and the deviation of the noise."""
    before, target, after = batch.split((3 * BEFORE, 3, 3 * AFTER), 1)
    frames = torch.cat([before, after], 1)
    draws = rng.uniform("condition", (3,))
    noise_std = NOISE_STD * draws[:, 0].square() * (draws[:, 0] > 0.3)  # a third of the sequences has none
    noise = rng.normal("condition noise", tuple(frames.shape[1:]))
    known = which_known(draws[:, 1], draws[:, 2])
    planes = known_slots(known, (batch.shape[2], batch.shape[3])).to(batch)
    frames = (frames + noise_std[:, None, None, None] * noise) * planes.repeat_interleave(3, 1)
    return target, frames, planes, noise_std


def which_known(past: Float[Tensor, " batch"], future: Float[Tensor, " batch"]) -> Bool[Tensor, "batch 4"]:
    """Draw which frames around the predicted one are known.

    Of the past 80 % have both frames, 9 % the last one, 6 % the one before; of the future 70 % have none.

    Args:
        past: Uniform numbers in [0, 1), [batch].
        future: Uniform numbers in [0, 1), [batch].

    Returns:
        Flags of the frames at times -2, -1, +1, +2, [batch, 4].
    """
    both, last, earlier = past < 0.8, (past >= 0.8) & (past < 0.89), (past >= 0.89) & (past < 0.95)
    two, next_one, later = (
        future < 0.15,
        (future >= 0.15) & (future < 0.25),
        (future >= 0.25) & (future < 0.3),
    )
    return torch.stack([both | earlier, both | last, two | next_one, two | later], 1)


def mean_loss(
    network: FramePredictor,
    batch: Float[Tensor, "batch channels size size"],
    rng: SharedStreams,
    lpips: nn.Module,
) -> Tensor:
    """Training loss of the mean: squared error of each sequence in dB plus 25 dB times LPIPS, batch mean.

    The logarithm weighs all sequences alike: one that stands still, whose error is small, counts as much as
    one of fast motion. It is less steep below an error of about one level. By squared error alone the mean is
    blurred, and a gate by LPIPS would rather hold the last frame.

    Args:
        network: The predictor.
        batch: Frames behind each other in [-1, 1].
        rng: Random streams.
        lpips: LPIPS metric for images in [-1, 1].

    Returns:
        Scalar loss in dB.
    """
    target, frames, known, noise_std = _condition(batch, rng)
    shown = network.mean(frames, known, noise_std).float()
    error = (shown - target).square().mean((1, 2, 3))
    return (10 * (error + LEAST_ERROR).log10() + LPIPS_DB * lpips(shown, target).float().flatten()).mean()


def velocity_loss(
    network: FramePredictor, batch: Float[Tensor, "batch channels size size"], rng: SharedStreams
) -> Tensor:
    """Training loss of the diffusion model: mean squared error of v at uniform times.

    Args:
        network: The predictor; its mean is not trained.
        batch: Frames behind each other in [-1, 1].
        rng: Random streams.

    Returns:
        Scalar loss.
    """
    target, frames, known, noise_std = _condition(batch, rng)
    time = rng.uniform("time", (1,))[:, 0]
    noise = smoothed(rng.normal("noise", tuple(target.shape[1:]))) / SMOOTHED_STD
    error, _ = _velocity_error(network, target, frames, known, noise_std, time, noise)
    return error.square().mean()


def _velocity_error(
    network: FramePredictor,
    target: Tensor,
    frames: Tensor,
    known: Tensor,
    noise_std: Tensor,
    time: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """Error of v, and v."""
    with torch.no_grad():
        mean = network.mean(frames, known, noise_std).float()
        residual = ((target - mean) / network.spread(frames, known)).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
    alpha, sigma = (value[:, None, None, None] for value in schedule(time))
    v = alpha * noise - sigma * residual
    noisy = alpha * residual + sigma * noise
    return network.velocity(noisy, time, frames, known, noise_std, mean).float() - v, v


@torch.no_grad()
def residual_scale(network: FramePredictor, sequences: Sequences) -> Float[Tensor, " 2"]:
    """Offset and slope of the usual size of what the mean misses, as a function of `difference`.

    The least sum of absolute deviations from local root mean square errors, predicted from two past frames of
    400 training sequences or all; at least 0.004 and 0. Errors have long tails, and a fit of squares would
    be too large nearly everywhere.

    Args:
        network: The predictor.
        sequences: Training sequences.

    Returns:
        s0 and s1.
    """
    apart: list[Tensor] = []
    sizes: list[Tensor] = []
    step = max(1, len(sequences.pixels) // 400)
    for batch in Sequences(sequences.pixels[::step], sequences.size).whole():
        target, frames, known, none = past_only(batch)
        square = (network.mean(frames, known, none) - target).square().mean(1, keepdim=True)
        around = nn.functional.avg_pool2d(square, 9, 1, 4, count_include_pad=False)
        apart.append(difference(frames, known)[:, :, 4::8, 4::8].flatten())
        sizes.append(around[:, :, 4::8, 4::8].sqrt().flatten())
    d, size = torch.cat(apart).double(), torch.cat(sizes).double()
    one = torch.stack([torch.ones_like(d), d], 1)
    weight = torch.ones_like(d)
    for _ in range(30):  # least absolute deviations by reweighted squares
        root = weight.sqrt()[:, None]
        fitted = torch.linalg.lstsq(root * one, root * size[:, None]).solution[:, 0]
        weight = 1 / (size - one @ fitted).abs().clamp_min(1e-4)
    offset, slope = fitted.tolist()
    return torch.tensor([max(offset, LEAST_SPREAD), max(slope, 0.0)])


def past_only(batch: Float[Tensor, "batch channels size size"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target and condition of prediction: both past frames without noise, no future one.

    Args:
        batch: Frames behind each other in [-1, 1].

    Returns:
        Target, frames around it, which are known, deviation of the noise (0).
    """
    before, target, after = batch.split((3 * BEFORE, 3, 3 * AFTER), 1)
    known = torch.tensor([True] * BEFORE + [False] * AFTER).expand(len(batch), SLOTS)
    planes = known_slots(known, (batch.shape[2], batch.shape[3])).to(batch)
    return target, torch.cat([before, torch.zeros_like(after)], 1), planes, batch.new_zeros(len(batch))


@torch.no_grad()
def mean_score(network: FramePredictor, held_out: Sequences, lpips: nn.Module) -> float:
    """Validation score of the mean in dB: PSNR of the next frame less 25 dB times LPIPS, mean over sequences.

    Squared errors are increased by `LEAST_ERROR`, so that a sequence that stands still, of which a copy has
    no error at all, does not outweigh the others: no PSNR exceeds 46 dB. The log tells the same of the last
    frame held, and moved on by the motion of its blocks.

    Args:
        network: The predictor.
        held_out: Held-out sequences.
        lpips: LPIPS metric for images in [-1, 1].

    Returns:
        Score in dB.
    """
    values: dict[str, list[tuple[float, float]]] = {}
    for batch in held_out.whole():
        target, frames, known, none = past_only(batch)
        shown_as = {
            "mean": network.mean(frames, known, none),
            "held": frames[:, 3:6],
            "moved": moved_blocks(frames, known),
        }
        for name, shown in shown_as.items():
            shown = shown.clamp(-1, 1)
            errors = (shown - target).square().mean((1, 2, 3)) + LEAST_ERROR
            pairs = zip((-10 * (errors / 4).log10()).tolist(), lpips(shown, target).flatten(), strict=True)
            values.setdefault(name, []).extend((psnr_db, float(distance)) for psnr_db, distance in pairs)
    means = {name: np.mean(of, axis=0) for name, of in values.items()}
    logger.info(", ".join(f"{name} {of[0]:.3f} dB, LPIPS {of[1]:.4f}" for name, of in means.items()))
    return float(means["mean"][0] - LPIPS_DB * means["mean"][1])


@torch.no_grad()
def velocity_score(network: FramePredictor, held_out: Sequences) -> float:
    """Validation score of the diffusion model in dB: ratio of v's variance to its error's, over 8 times.

    Args:
        network: The predictor.
        held_out: Held-out sequences.

    Returns:
        Ratio in dB.
    """
    signal, error = 0.0, 0.0
    generator = torch.Generator().manual_seed(0)
    for batch in held_out.whole():
        target, frames, known, none = past_only(batch)
        noise = (smoothed(torch.randn(target.shape, generator=generator)) / SMOOTHED_STD).to(target)
        time = ((torch.arange(len(batch)) % 8 + 0.5) / 8).to(target)
        missed, v = _velocity_error(network, target, frames, known, none, time, noise)
        signal, error = signal + float(v.square().sum()), error + float(missed.square().sum())
    return 10 * math.log10(signal / error)
