"""The training loop: schedule, averages, resumption."""

import logging
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from instances import an_adaptive_network
from PIL import Image
from torch import Tensor, nn

from channels import SharedStreams
from semcom import zoo
from semcom.errors import InvalidOption, InvalidSource, MissingWeights, TrainingDiverged
from semcom.jscc.bourtsoulatze2019 import Bourtsoulatze2019
from semcom.training import common, deepjscc, deepjscc2019, learned_codec, perceptual, prior, shards
from semcom.training.crops import Crops, pack, shard_of
from semcom.training.loop import Settings, Training


class Ticks:
    """A clock that advances by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def fit_a_line(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
    return (network(x) - 2 * x[:, :1] + 0.1 * rng.normal("noise", (1,))).square().mean()


def sample(batch: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, 3, generator=generator)


def score(network: nn.Module) -> float:
    return -float(network(torch.eye(3)).square().sum())


def a_run(folder: Path, loss=fit_a_line, score=score, **settings: float) -> Training:
    torch.manual_seed(1)
    chosen = Settings(**{"seconds": 100.0, "validate_seconds": 10.0, **settings})
    return Training(nn.Linear(3, 1), loss, sample, score, chosen, folder, Ticks())


def crash() -> None:
    raise ZeroDivisionError


STOPS = {
    "crash": (crash, ZeroDivisionError),  # resumed from the last point of the curve
    "ctrl-c": (lambda: os.kill(os.getpid(), signal.SIGINT), KeyboardInterrupt),  # from that very step
    "sigterm": (lambda: os.kill(os.getpid(), signal.SIGTERM), KeyboardInterrupt),
}


@pytest.mark.parametrize("stop", [3, 15, 40, 85])
@pytest.mark.parametrize("how", STOPS)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, stop: int, how: str) -> None:
    whole = a_run(tmp_path / "whole")
    whole.run()
    interrupt, error = STOPS[how]
    steps = 0

    def interrupted(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == stop:
            interrupt()
        return fit_a_line(network, x, rng)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    first = a_run(tmp_path / "parts", interrupted)
    with pytest.raises(error):
        first.run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    second = a_run(tmp_path / "parts")
    if how == "crash":
        assert second.step < stop - 1 or stop == 3
    else:
        assert second.step == stop
    second.run()
    assert second.curve == whole.curve
    for a, b in ((second.network, whole.network), (second.average, whole.average)):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert (tmp_path / "parts/curve.csv").read_text() == (tmp_path / "whole/curve.csv").read_text()


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    first = a_run(tmp_path)
    first.run()
    second = a_run(tmp_path)
    second.run()
    assert second.step == first.step
    assert second.curve == first.curve


def test_a_run_that_is_over_before_its_first_validation_is_validated(tmp_path: Path) -> None:
    interrupted = a_run(tmp_path)
    interrupted.loss = lambda *given: (os.kill(os.getpid(), signal.SIGTERM), fit_a_line(*given))[1]
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    shorter = a_run(tmp_path, seconds=0.5)
    shorter.run()
    assert shorter.step == 1
    assert shorter.result == shorter.curve[-1]
    assert (tmp_path / "curve.csv").is_file()


def test_a_run_outside_the_main_thread_leaves_signals_alone(tmp_path: Path) -> None:
    training = a_run(tmp_path)
    thread = threading.Thread(target=training.run)
    thread.start()
    thread.join(60)
    assert training.curve[-1].seconds >= 100


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_steps_that_are_not_finite_are_skipped(tmp_path: Path, where: str) -> None:
    calls = 0

    def now_and_then_nan(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
        nonlocal calls
        calls += 1
        loss = fit_a_line(network, x, rng)
        if calls % 5 == 0:
            return loss * torch.nan if where == "loss" else (0 * network.weight).abs().sqrt().sum()
        return loss

    training = a_run(tmp_path, now_and_then_nan)
    training.run()
    assert training.skipped == calls // 5 > 10
    assert training.step == calls - training.skipped
    assert all(math.isfinite(point.loss) for point in training.curve)
    assert training.network.weight.isfinite().all()
    assert a_run(tmp_path).skipped == training.skipped


def test_a_score_that_is_no_number_says_so(tmp_path: Path) -> None:
    training = a_run(tmp_path)
    training.score = lambda network: math.nan
    with pytest.raises(TrainingDiverged, match="score not a number after step"):
        training.run()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_run_that_diverged_says_so(tmp_path: Path) -> None:
    calls = 0

    def nan_from_step_20(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
        nonlocal calls
        calls += 1
        return fit_a_line(network, x, rng) * (math.nan if calls > 20 else 1)

    with pytest.raises(TrainingDiverged, match=r"50 steps in a row, after step 20; .* rate of 0.001"):
        a_run(tmp_path, nan_from_step_20).run()
    assert calls == 70


def test_a_run_with_patience_ends_with_its_best_weights(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def best_third(network: nn.Module) -> float:
        seen.append(network.weight.clone())
        return [1.0, 3.0, 5.0, 4.0, 5.0, 2.0, 6.0][len(seen) - 1]

    whole = a_run(tmp_path / "whole", score=best_third, patience=3, seconds=1000.0)
    best = whole.run()
    assert [point.score for point in whole.curve] == [1, 3, 5, 4, 5, 2]
    assert whole.curve[0].step == 0  # the network as it came
    assert torch.equal(best.weight, seen[2])
    again = a_run(tmp_path / "whole", score=best_third, patience=3, seconds=1000.0)
    assert torch.equal(again.run().weight, seen[2])
    assert len(seen) == 6
    patient = a_run(tmp_path / "whole", score=best_third, patience=4, seconds=1000.0)
    patient.loss = lambda network, x, rng: crash() if len(seen) == 7 else fit_a_line(network, x, rng)
    with pytest.raises(ZeroDivisionError):
        patient.run()
    assert patient.curve[-1].score == 6
    assert torch.equal(patient.best["weight"], seen[6])


def test_a_run_that_goes_on_without_patience_ends_with_its_last_weights(tmp_path: Path) -> None:
    falling = iter([3.0, 2.0, 1.0])
    a_run(tmp_path, score=lambda network: next(falling), patience=2, seconds=1000.0).run()
    rising = iter(range(4, 100))
    longer = a_run(tmp_path, score=lambda network: float(next(rising)), seconds=100.0)
    last = longer.run()
    assert longer.result == longer.curve[-1]
    assert longer.result.score > 4
    assert torch.equal(last.weight, torch.load(tmp_path / "checkpoint.pt")["average"]["weight"])


@pytest.mark.parametrize(
    "options",
    [{"seconds": 0.0}, {"seconds": math.nan}, {"batch": 0}, {"learning_rate": math.inf}, {"patience": 0}],
    ids=str,
)
def test_settings_that_train_nothing_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(InvalidOption, match=f"training with {name} = "):
        Settings(**{"seconds": 10.0, **options})


def test_patience_costs_a_network_that_cannot_get_better_nothing(tmp_path: Path) -> None:
    scores = iter([9.0, 5.0, 6.0, 7.0])
    training = a_run(tmp_path, score=lambda network: next(scores), patience=2, seconds=1000.0)
    start = training.network.weight.detach().clone()
    assert torch.equal(training.run().weight, start)
    assert len(training.curve) == 3


def test_progress_goes_to_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "semcom.training.loop")
    a_run(tmp_path, seconds=40.0, report_seconds=3.0).run()
    points = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    reports = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert len(points) == 4
    assert 8 <= len(reports) <= 12
    assert points[0].startswith("step 10, loss ")
    assert points[0].endswith("29 s left")
    assert "score" not in reports[0]
    assert all("score -" in report for report in reports[3:])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "a tenth": lambda content: content[: len(content) // 10],
    "half": lambda content: content[: len(content) // 2],
    "last byte": lambda content: content[:-1],
    "text": lambda content: b"step,seconds,loss,score\n1,2,3,4\n",
    "zeros": lambda content: bytes(len(content)),
    "another pickle": lambda content: content.replace(b"optimizer", b"optimiser"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    a_run(tmp_path, seconds=20.0).run()
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(MissingWeights, match=r"checkpoint\.pt is not a checkpoint of this network") as caught:
        a_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_network_is_one_line(tmp_path: Path) -> None:
    a_run(tmp_path, seconds=20.0).run()
    other = nn.Linear(4, 1)
    with pytest.raises(MissingWeights, match="choose another folder") as caught:
        Training(other, fit_a_line, sample, score, Settings(20.0), tmp_path, Ticks())
    assert "\n" not in str(caught.value)


BARE = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder


class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {REFUSED} else super().find_spec(name, path, target)


sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
import semcom.training
names = [module.name for module in pkgutil.iter_modules(semcom.training.__path__)]
for name in names:
    importlib.import_module(f"semcom.training.{name}")
from pathlib import Path
from types import ModuleType

folder = Path(sys.argv[1])
recipe = importlib.import_module("semcom.training." + sys.argv[2])
score = recipe.train(0.5, folder / "out", photos=folder / "train.npz", validation=folder / "val.npz", crop=64)
assert 5 < score < 40
print(*names)
"""


def test_recipes_need_torch_numpy_safetensors_and_jaxtyping_alone(tmp_path: Path) -> None:
    for name in ("train", "val"):
        shards.write(photographs(2, 256), tmp_path / f"{name}.npz")
    refused = {"PIL", "scipy", "numba", "typer", "rich", "accelerate", "compressai", "diffusers", "lpips"}
    refused |= {"torchvision", "torchmetrics", "skimage", "matplotlib", "pandas", "pyarrow", "av"}
    program = [sys.executable, "-c", BARE.replace("{REFUSED}", repr(refused)), str(tmp_path), "deepjscc2019"]
    done = subprocess.run(program, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"crops", "deepjscc2019", "loop", "processes"} <= set(done.stdout.split())


def test_a_checkpoint_cut_while_it_was_written_does_no_harm(tmp_path: Path) -> None:
    first = a_run(tmp_path)
    first.run()
    (tmp_path / "checkpoint.pt.00000000.part").write_bytes(b"half")
    assert a_run(tmp_path).step == first.step


def test_the_average_follows_its_recursion(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def recording(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
        seen.append(network.weight.detach().clone())
        return fit_a_line(network, x, rng)

    training = a_run(tmp_path, recording, ema_steps=4)
    training.run()
    expected = seen[0].double()
    for step, weights in enumerate([*seen[1:], training.network.weight.detach()], start=1):
        weight = 1 / min(4, 1 + step / 10)
        expected = (1 - weight) * expected + weight * weights.double()
    torch.testing.assert_close(training.average.weight.double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(training.average.weight, training.network.weight)


def test_the_learning_rate_follows_the_clock(tmp_path: Path) -> None:
    settings = Settings(seconds=1000.0, learning_rate=0.01, warmup=0.05)
    assert settings.learning_rate_at(0.0) < 0.001
    assert settings.learning_rate_at(50.0) == pytest.approx(0.01 * (1 + math.cos(math.pi * 0.05)) / 2)
    assert settings.learning_rate_at(500.0) == pytest.approx(0.005)
    assert settings.learning_rate_at(1000.0) == pytest.approx(0)
    assert settings.learning_rate_at(1200.0) == pytest.approx(0)
    training = a_run(tmp_path)
    training.run()
    for point in training.curve:
        assert point.learning_rate <= training.settings.learning_rate_at(point.seconds - 3)
        assert point.learning_rate >= training.settings.learning_rate_at(point.seconds)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    def steep(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
        return 1e6 * fit_a_line(network, x, rng)

    training = a_run(tmp_path, steep, clip=0.5)
    training.run()
    norm = torch.stack([p.grad.square().sum() for p in training.network.parameters()]).sum().sqrt()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)


def test_a_small_network_learns(tmp_path: Path) -> None:
    pieces = np.zeros((8, 48, 48, 3), np.uint8)
    ramp = np.arange(48)
    for i in range(8):  # smooth pictures in eight colours
        pieces[i] = ramp[:, None, None] * (i % 3 + 1) + ramp[None, :, None] * (i % 2) + [i * 8, 9, 50]
    np.save(tmp_path / "shard.npy", pieces)
    crops = Crops.load(tmp_path / "shard.npy", 24)
    pictures = crops.whole()

    def loss(network: Bourtsoulatze2019, x: Tensor, rng: SharedStreams) -> Tensor:
        return (deepjscc2019.reconstruct(network, x, 10.0, rng) - x).square().mean()

    def psnr_db(network: Bourtsoulatze2019) -> float:
        with torch.no_grad():
            return -10 * math.log10(loss(network, pictures, SharedStreams.seeded(0, 8)))

    torch.manual_seed(0)
    network = Bourtsoulatze2019(8, widths=(8, 8, 8, 8))
    before = psnr_db(deepcopy(network))
    settings = Settings(seconds=300.0, batch=8, learning_rate=5e-3, ema_steps=20, validate_seconds=100.0)
    training = Training(network, loss, crops.sample, psnr_db, settings, tmp_path, Ticks())
    training.run()
    assert training.curve[-1].score > before + 3
    assert training.curve[-1].loss < training.curve[0].loss / 2


def test_windows_lie_in_the_pieces_and_half_of_them_are_mirrored() -> None:
    side, size = 12, 5
    code = np.arange(3 * side * side).reshape(3, side, side) % 251  # each 5x5 window is different
    crops = Crops(torch.from_numpy(code[..., None].repeat(3, 3).astype(np.uint8)), size)
    known = {}
    for piece in range(3):
        for i in range(side - size + 1):
            for j in range(side - size + 1):
                window = code[piece, i : i + size, j : j + size]
                known[window.tobytes()] = False
                known[window[:, ::-1].tobytes()] = True
    windows = crops.sample(400, torch.Generator().manual_seed(0))
    assert windows.shape == (400, 3, size, size)
    values = (windows[:, 0] * 255).round().long().numpy()
    mirrored = [known[window.tobytes()] for window in values]
    assert abs(sum(mirrored) - 200) <= 5 * 10  # five standard errors of a fair coin
    assert len({window.tobytes() for window in values}) > 180  # of 384, drawn 400 times


def test_a_shard_is_cut_from_all_pictures(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, size in enumerate([(40, 30), (30, 50), (10, 12)]):  # the last is smaller than a piece
        Image.new("RGB", size, (i * 50, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    pack(tmp_path / "photos", tmp_path / "a.npy", count=9, side=16)
    pack(tmp_path / "photos", tmp_path / "b.npy", count=9, side=16)
    pieces = np.load(tmp_path / "a.npy")
    assert pieces.shape == (9, 16, 16, 3)
    assert sorted(pieces[:, 0, 0, 0].tolist()) == [0, 0, 0, 50, 50, 50, 100, 100, 100]
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    pack(tmp_path / "photos", tmp_path / "a.npz", count=9, side=16)
    compressed = Crops.load(shard_of(tmp_path / "a.npz", tmp_path, 0, 0), 16).pixels
    assert np.abs(compressed.numpy() - pieces.astype(int)).max() <= 3
    assert not list(tmp_path.glob("*.part"))


def test_a_shard_holds_what_users_send(tmp_path: Path) -> None:
    """16 bits are scaled, transparency is laid on white, and a damaged picture is one line."""
    picture = tmp_path / "photos/1.png"
    picture.parent.mkdir()
    for pixels, expected in (
        (np.full((20, 20), 20000, np.uint16), 78),
        (np.zeros((20, 20, 4), np.uint8), 255),
    ):
        Image.fromarray(pixels).save(picture)
        pack(tmp_path / "photos", tmp_path / "shard.npy", 1, 16)
        assert (np.load(tmp_path / "shard.npy") == expected).all()
    picture.write_bytes(picture.read_bytes()[:45])
    with pytest.raises(InvalidSource, match=r"1\.png: not a readable picture"):
        pack(tmp_path / "photos", tmp_path / "shard.npy", 1, 16)


def test_a_folder_is_packed_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    for folder, red in (("a/photos", 50), ("b/photos", 100)):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (20, 20), (red, 0, 0)).save(tmp_path / folder / "1.png")
    cache = tmp_path / "cache"
    first = shard_of(tmp_path / "a/photos", cache, 3, 16)
    written = first.stat().st_mtime_ns
    assert shard_of(tmp_path / "a/photos", cache, 3, 16) == first
    assert first.stat().st_mtime_ns == written
    other = shard_of(tmp_path / "b/photos", cache, 3, 16)  # of the same name
    assert [int(np.load(shard)[0, 0, 0, 0]) for shard in (first, other)] == [50, 100]
    os.utime(tmp_path / "a/photos/1.png", (0, 0))  # the same picture
    assert shard_of(tmp_path / "a/photos", cache, 3, 16) == first
    Image.new("RGB", (20, 20), (51, 0, 0)).save(tmp_path / "a/photos/1.png")
    later = shard_of(tmp_path / "a/photos", cache, 3, 16)
    assert later not in (first, other)
    Image.new("RGB", (30, 30)).save(tmp_path / "a/photos/2.png")
    assert shard_of(tmp_path / "a/photos", cache, 3, 16) not in (first, other, later)
    with pytest.raises(InvalidSource, match="no pictures"):
        shard_of(tmp_path / "a", cache, 3, 16)


def test_a_specialist_of_the_adaptive_network_is_no_worse_than_its_start(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", photographs(3, 224))
    np.save(tmp_path / "val.npy", photographs(2, 320))
    shards = {"photos": tmp_path / "train.npy", "validation": tmp_path / "val.npy"}
    options = {"rho": "1/48", "snr_db": 0.0, "patience": 1, "batch": 2, "crop": 64}
    first = deepjscc.train(1.0, tmp_path / "first", **shards, **options)
    weights = tmp_path / "first/weights.safetensors"
    second = deepjscc.train(1.0, tmp_path / "second", start=weights, **shards, **options)
    assert second >= first - 0.05  # rounding of the weights to fp16
    start = (tmp_path / "second/curve.csv").read_text().splitlines()[1].split(",")
    assert start[0] == "0"
    assert float(start[3]) == pytest.approx(first, abs=0.05)
    with pytest.raises(InvalidOption, match="both rho and SNR"):
        deepjscc.train(1.0, tmp_path, rho="1/48", **shards)


def test_the_smallest_crops_have_room_for_the_least_transmission() -> None:
    network, rng = an_adaptive_network(), SharedStreams.seeded(0, 2)
    for _ in range(10):
        assert deepjscc.loss(network, torch.rand(2, 3, 16, 16), rng).isfinite()


class GradientDistance(torch.nn.Module):
    """In the place of LPIPS, whose backbone is not everywhere: differences between neighbouring pixels."""

    def forward(self, x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """One distance per item."""
        return (x_hat.diff(dim=3) - x.diff(dim=3)).abs().mean((1, 2, 3), keepdim=True)


def test_the_perceptual_recipe_tunes_the_decoder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "train.npy", photographs(3, 224))
    np.save(tmp_path / "val.npy", photographs(1, 320))
    monkeypatch.setattr(perceptual, "lpips_network", lambda backbone, device: GradientDistance())
    shards = {"photos": tmp_path / "train.npy", "validation": tmp_path / "val.npy"}
    ticks = count(0.0)  # steps, not time, on any machine
    monkeypatch.setattr(common, "Training", partial(Training, clock=lambda: next(ticks)))
    score_db = perceptual.train(20.0, tmp_path / "out", batch=2, crop=64, **shards)
    assert 5 < score_db < 30
    decoder = zoo.read(tmp_path / "out/weights.safetensors")
    network = zoo.load("deepjscc")
    assert decoder.config == network.decoder.config | {"aim": "perceptual"}
    changes = [
        float((old - new).abs().max())
        for old, new in zip(network.decoder.parameters(), decoder.parameters(), strict=True)
    ]
    assert max(changes) > 1e-4
    state = torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)["network"]
    encoder = {key: value for key, value in network.state_dict().items() if "decoder" not in key}
    assert all(torch.equal(state[key], value) for key, value in encoder.items())


def test_the_recipe_ends_in_readable_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "train.npy", rng.integers(0, 256, (4, 64, 64, 3), np.uint8))
    np.save(tmp_path / "val.npy", rng.integers(0, 256, (2, 256, 256, 3), np.uint8))
    shards = {"photos": tmp_path / "train.npy", "validation": tmp_path / "val.npy"}
    psnr_db = deepjscc2019.train(0.5, tmp_path / "out", "1/192", crop=32, **shards)
    assert 5 < psnr_db < 15
    assert zoo.read(tmp_path / "out/weights.safetensors").name == "deepjscc-2019-192"
    assert (tmp_path / "out/curve.csv").read_text().startswith("step,seconds,loss,score")
    with pytest.raises(InvalidOption, match="no reference network for rho = 1/7"):
        deepjscc2019.train(1.0, tmp_path, "1/7", **shards)


@pytest.mark.parametrize("module", [deepjscc, deepjscc2019, learned_codec, perceptual, prior])
def test_weights_of_another_network_are_no_start(
    tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "train.npy", photographs(2, 224))
    np.save(tmp_path / "val.npy", photographs(1, 320))
    monkeypatch.setattr(perceptual, "lpips_network", lambda backbone, device: GradientDistance())
    shards = {"photos": tmp_path / "train.npy", "validation": tmp_path / "val.npy"}
    torch.manual_seed(0)
    other = zoo.WEIGHTS / ("deepjscc.safetensors" if module is learned_codec else "learned.safetensors")
    with pytest.raises(InvalidOption, match=r"holds a \w+; start from a \w+"):
        module.train(1.0, tmp_path / "out", start=other, **shards)


def photographs(count: int, side: int) -> np.ndarray:
    """Squares of pictures that come with scikit-image."""
    from skimage import data

    rng = np.random.default_rng(1)
    pictures = [data.astronaut(), data.coffee(), data.chelsea()]
    squares = []
    for i in range(count):
        picture = pictures[i % 3]
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in picture.shape[:2])
        squares.append(picture[top : top + side, left : left + side])
    return np.stack(squares)


def test_a_compressed_shard_is_worth_its_size(tmp_path: Path) -> None:
    pixels = photographs(70, 96)  # more than the 64 that are coded at once
    shards.write(pixels, tmp_path / "shard.npz")
    crops = Crops.load(tmp_path / "shard.npz", 64)
    assert crops.pixels.shape == pixels.shape
    error = crops.pixels.float() - torch.from_numpy(pixels).float()
    psnr_db = 10 * torch.log10(255**2 / error.square().mean((1, 2, 3)))
    jpeg_db, jpeg_bytes = [], 0
    for square in pixels:
        Image.fromarray(square).save(tmp_path / "square.jpg", quality=93, subsampling=2)
        jpeg_bytes += (tmp_path / "square.jpg").stat().st_size - 623  # without its tables
        loss = np.asarray(Image.open(tmp_path / "square.jpg")).astype(float) - square
        jpeg_db.append(10 * math.log10(255**2 / np.mean(loss**2)))
    assert psnr_db.mean() > np.mean(jpeg_db) > 35
    assert (tmp_path / "shard.npz").stat().st_size < jpeg_bytes
    assert float(error.mean((0, 1, 2)).abs().max()) < 0.1  # no shift of colour


def test_the_step_alone_limits_grey_pictures(tmp_path: Path) -> None:
    grey = photographs(6, 48).mean(-1, keepdims=True).round().astype(np.uint8).repeat(3, -1)
    for step in (0.5, 2.0, 8.0):
        shards.write(grey, tmp_path / "shard.npz", step)
        error = (shards.read(tmp_path / "shard.npz").numpy() - grey.astype(float))[..., 0]
        # an orthonormal transform: step^2 / 12 in the pixels, less where coefficients are zero, and rounding
        assert np.mean(error**2) < (step**2 + 1) / 12 * 1.05
    assert np.mean(error**2) > step**2 / 12 * 0.3


def test_the_finest_step_holds_the_greatest_contrast_and_finer_ones_are_refused(tmp_path: Path) -> None:
    board = np.kron(np.indices((4, 4)).sum(0) % 2 * 255, np.ones((8, 8))).astype(np.uint8)
    pixels = board[None, :, :, None].repeat(3, -1)
    shards.write(pixels, tmp_path / "shard.npz", 1 / 16)
    assert np.abs(shards.read(tmp_path / "shard.npz").numpy() - pixels.astype(int)).max() <= 1
    for step in (0.05, 0.0, math.nan):
        with pytest.raises(InvalidOption, match=f"quantiser step {step:g} of 255: choose at least 0.0625"):
            shards.write(pixels, tmp_path / "shard.npz", step)


def test_the_transform_is_the_discrete_cosine_transform() -> None:
    from scipy.fft import dctn

    planes = torch.rand(2, 3, 16, 16) * 255 - 128
    levels = shards._levels(planes, 0.001).numpy()
    for block, (i, j) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
        expected = dctn(planes[1, 2, i : i + 8, j : j + 8].numpy(), norm="ortho") / 0.001
        found = levels[1, 2, :, : block + 1]
        mean = found[0].sum()  # coded as differences
        assert mean == pytest.approx(expected[0, 0], abs=2)
        assert found[1:3, block] == pytest.approx([expected[0, 1], expected[1, 0]], abs=2)
        assert found[63, block] == pytest.approx(expected[7, 7], abs=2)


def test_shards_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    shards.write(photographs(2, 32), good)
    content = good.read_bytes()
    for name in ("a.npz", "a.npy"):
        with pytest.raises(InvalidSource, match=rf"{name}: no such file"):
            Crops.load(tmp_path / name, 16)
        for damaged in (b"", b"text", content[: len(content) // 2]):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(InvalidSource, match=rf"{name} is not a readable shard"):
                Crops.load(tmp_path / name, 16)
        (tmp_path / name).unlink()
    np.save(tmp_path / "a.npy", np.zeros((4, 32, 32, 3), np.uint8))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"}", b" ", 1))  # numpy reads its header as Python
    with pytest.raises(InvalidSource, match=r"a\.npy is not a readable shard"):
        Crops.load(tmp_path / "a.npy", 16)
    np.save(tmp_path / "grey.npy", np.zeros((4, 32, 32), np.uint8))
    with pytest.raises(InvalidSource, match=r"holds uint8 \(4, 32, 32\)"):
        Crops.load(tmp_path / "grey.npy", 16)
    with pytest.raises(InvalidOption, match=r"crops of 48x48 .* squares are 32x32"):
        Crops.load(good, 48)
    with pytest.raises(InvalidSource, match=r"squares of 40x40: .* multiple of 16"):
        shards.write(photographs(2, 40), good)
