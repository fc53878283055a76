"""Weights files that hold a program: it is never run, and what happens instead is one line."""

import ast
import hashlib
import io
import pickle
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn
from torchvision import models

from semcom import checkpoints, names, zoo
from semcom.cli import main
from semcom.errors import InvalidSource, MissingWeights
from semcom.metrics import FID, KID, available_metrics, perceptual, realism
from semcom.training.crops import Crops
from semcom.training.loop import Settings, Training

ROOT = Path(__file__).parents[2]
BACKBONES = ("squeeze", "alex", "vgg")


@pytest.fixture(autouse=True)
def _careless_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch loads anything where its caller does not say otherwise."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


class Program:
    """Pickled, it is a call that creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.marker), "w")


def saved(content: object, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


KINDS: dict[str, Callable[[Program], bytes]] = {
    "pickle": pickle.dumps,
    "torch": lambda program: saved({"features.0.weight": torch.zeros(1), "x": program}),
    "old torch": lambda program: saved({"features.0.weight": torch.zeros(1), "x": program}, old=True),
}


class Trap:
    """Files that hold a program, and whether one was run."""

    def __init__(self, marker: Path, kind: str) -> None:
        self.marker = marker
        self.content = KINDS[kind](Program(marker))

    def plant(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        return path

    def plant_published(self, folder: Path) -> str:
        """Name of a file that passes the check of its SHA-256, so that the loader is alone with it."""
        name = f"planted-{hashlib.sha256(self.content).hexdigest()[:8]}.pth"
        self.plant(folder / name)
        return name


@pytest.fixture(params=KINDS)
def trap(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trap]:
    trap = Trap(tmp_path / "marker", request.param)
    yield trap
    assert not trap.marker.exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_trap_works(tmp_path: Path, kind: str) -> None:
    trap = Trap(tmp_path / "marker", kind)
    path = trap.plant(tmp_path / "weights.pth")
    torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(path.read_bytes())
    assert trap.marker.exists()


# The torch cache


def published(content: bytes, folder: Path) -> str:
    """Name of a file of this content, in torchvision's manner."""
    name = f"weights-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    return name


def test_a_published_file_is_loaded_and_a_damaged_one_is_told(cache: Path) -> None:
    weights = {"weight": torch.arange(6.0).view(2, 3)}
    name = published(saved(weights), cache)
    assert torch.equal(checkpoints.load_checkpoint(name, "me")["weight"], weights["weight"])
    content = bytearray((cache / name).read_bytes())
    content[len(content) // 2] ^= 1
    (cache / name).write_bytes(content)
    found, expected = hashlib.sha256(content).hexdigest()[:8], name[-12:-4]
    with pytest.raises(MissingWeights) as raised:
        checkpoints.load_checkpoint(name, "me")
    assert str(raised.value).startswith(f"me: {cache / name} is damaged or another file")
    assert f"begins with {found}, expected {expected}; replace it" in str(raised.value)
    assert "\n" not in str(raised.value)
    (cache / name).unlink()
    with pytest.raises(MissingWeights, match=f"{name} is not in"):
        checkpoints.require_checkpoint(name, "me")


def test_a_file_is_hashed_once_while_it_stays_as_it_is(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    digest = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        hashed.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    name = published(b"some weights", cache)
    for _ in range(3):
        checkpoints.require_checkpoint(name, "me")
    assert len(hashed) == 1
    (cache / name).write_bytes(b"others")
    with pytest.raises(MissingWeights, match="another file"):
        checkpoints.require_checkpoint(name, "me")
    assert len(hashed) == 2


def test_the_rounded_backbone_is_known_by_its_whole_digest() -> None:
    """Short prefixes are those of the names alone."""
    for name, digest in checkpoints.ROUNDED_TO_FP16.items():
        assert len(bytes.fromhex(digest)) == 32
        assert name in perceptual.BACKBONE_FILES.values()
    for name in (*perceptual.BACKBONE_FILES.values(), realism.INCEPTION_FILE):
        assert checkpoints.DIGEST_IN_NAME.search(name)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, {"a": {"b": torch.zeros(1)}}])
def test_what_is_no_state_dict_is_one_line(tmp_path: Path, content: object) -> None:
    (tmp_path / "x.pth").write_bytes(saved(content))
    with pytest.raises(MissingWeights, match="more than tensors by name"):
        checkpoints.load_tensors(tmp_path / "x.pth", "me")


def test_no_advice_to_run_code(trap: Trap, tmp_path: Path) -> None:
    path = trap.plant(tmp_path / "x.pth")
    with pytest.raises(MissingWeights, match="damaged, or more than weights") as raised:
        checkpoints.load_tensors(path, "me")
    assert "weights_only" not in str(raised.value)


# LPIPS


def torchvision_backbone(backbone: str) -> nn.Module:
    """With random weights."""
    torch.manual_seed(1)
    if backbone == "vgg":
        return models.vgg16(weights=None, init_weights=False)
    return {"squeeze": models.squeezenet1_1, "alex": models.alexnet}[backbone](weights=None)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_lpips_is_what_lpips_itself_makes_of_torchvision(
    backbone: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lpips

    whole = torchvision_backbone(backbone)
    features = {key: value for key, value in whole.state_dict().items() if key.startswith("features.")}
    monkeypatch.setitem(perceptual.BACKBONE_FILES, backbone, published(saved(features), cache))
    found = perceptual.lpips_network(backbone, torch.device("cpu"))

    constructor = {"squeeze": "squeezenet1_1", "alex": "alexnet", "vgg": "vgg16"}[backbone]
    monkeypatch.setattr(lpips.pretrained_networks.tv, constructor, lambda pretrained: whole)
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    expected = lpips.LPIPS(net=backbone, verbose=False)
    assert sum(p.numel() for p in found.parameters()) == sum(p.numel() for p in expected.parameters())
    assert not found.training
    assert not any(weight.requires_grad for weight in found.parameters())
    x = torch.rand(2, 3, 64, 48) * 2 - 1
    x_hat = (x + 0.2 * torch.randn(x.shape)).clamp(-1, 1)
    with torch.no_grad():
        distance, reference = found(x_hat, x), expected(x_hat, x)
    assert float(reference.min()) > 0
    torch.testing.assert_close(distance, reference, rtol=1e-6, atol=0)


@pytest.mark.shared
def test_lpips_of_the_rounded_backbone_is_what_lpips_itself_says(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lpips

    monkeypatch.setenv("TORCH_HOME", str(shared_data.parent / "torch-home"))
    with pytest.warns(UserWarning, match="weights"):
        expected = lpips.LPIPS(net="squeeze", verbose=False)
    x = torch.rand(2, 3, 64, 48) * 2 - 1
    x_hat = (x + 0.2 * torch.randn(x.shape)).clamp(-1, 1)
    with torch.no_grad():
        found = perceptual.lpips_network("squeeze", torch.device("cpu"))(x_hat, x)
        torch.testing.assert_close(found, expected(x_hat, x), rtol=1e-6, atol=0)


def test_a_backbone_of_another_network_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (
        {"features.0.weight": torch.zeros(1)},
        torchvision_backbone("alex").state_dict(),
    ):
        monkeypatch.setitem(perceptual.BACKBONE_FILES, "squeeze", published(saved(content), cache))
        with pytest.raises(MissingWeights, match=r"lpips_squeeze: .* is of another network"):
            perceptual.lpips_network("squeeze", torch.device("cpu"))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_planted_backbone_is_left_out(trap: Trap, cache: Path, backbone: Any) -> None:
    trap.plant(cache / perceptual.BACKBONE_FILES[backbone])
    with pytest.raises(MissingWeights, match="damaged or another file"):
        perceptual.lpips_network(backbone, torch.device("cpu"))
    (line,) = [line for line in available_metrics().left_out if line.startswith(f"lpips_{backbone}:")]
    assert "is damaged or another file" in line


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_planted_backbone_of_the_right_digest_is_not_run(
    trap: Trap, cache: Path, backbone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(perceptual.BACKBONE_FILES, backbone, trap.plant_published(cache))
    with pytest.raises(MissingWeights, match="more than weights"):
        perceptual.lpips_network(backbone, torch.device("cpu"))


def test_planted_heads_are_not_run(
    trap: Trap, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(torchvision_backbone("squeeze").state_dict())
    monkeypatch.setitem(perceptual.BACKBONE_FILES, "squeeze", published(content, cache))
    planted = ModuleSpec("lpips", None, origin=str(tmp_path / "lpips/__init__.py"))
    monkeypatch.setattr(perceptual, "find_spec", lambda name: planted)
    heads = trap.plant(tmp_path / "lpips/weights/v0.1/squeeze.pth")
    with pytest.raises(MissingWeights, match=r"squeeze\.pth is damaged or another file"):
        perceptual.lpips_network("squeeze", torch.device("cpu"))
    monkeypatch.setitem(perceptual.HEAD_DIGESTS, "squeeze", hashlib.sha256(heads.read_bytes()).hexdigest())
    with pytest.raises(MissingWeights, match="more than weights"):
        perceptual.lpips_network("squeeze", torch.device("cpu"))


# Inception


def test_inception_is_what_torchmetrics_itself_loads(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

    with monkeypatch.context() as patch:
        patch.setattr(NoTrainInceptionV3, "load_state_dict", lambda self, weights: None)
        random = NoTrainInceptionV3("random", ["2048"], io.BytesIO(saved({})))  # pyright: ignore
    # like the published file, which was made by a converter: without counts of batches
    weights = {key: value for key, value in random.state_dict().items() if "num_batches" not in key}
    content = saved(weights)
    (cache / realism.INCEPTION_FILE).write_bytes(content)
    expected = FrechetInceptionDistance(2048)  # finds it by its name and does not look at its digest
    monkeypatch.setattr(realism, "INCEPTION_FILE", published(content, cache))
    fid, kid = FID(), KID()
    x = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8)
    features = expected.inception(x)
    assert float((features[0] - features[1]).abs().max()) > 0
    for distance in (fid, kid):
        assert torch.equal(distance._distance.inception(x), features)
        assert not distance._distance.inception.training
    assert fid._distance.real_features_sum.shape == expected.real_features_sum.shape


@pytest.mark.parametrize("distance", [FID, KID])
def test_a_planted_inception_is_not_run(
    trap: Trap, cache: Path, distance: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap.plant(cache / realism.INCEPTION_FILE)
    with pytest.raises(MissingWeights, match="damaged or another file"):
        distance()
    monkeypatch.setattr(realism, "INCEPTION_FILE", trap.plant_published(cache))
    with pytest.raises(MissingWeights, match="more than weights"):
        distance()
    monkeypatch.setattr(realism, "INCEPTION_FILE", published(saved({"x": torch.zeros(1)}), cache))
    with pytest.raises(MissingWeights, match="another network"):
        distance()


# The command line


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    PillowImage.fromarray(pixels).resize((96, 72), PillowImage.Resampling.BICUBIC).save(
        tmp_path / "photo.png"
    )
    return tmp_path / "photo.png"


def test_send_measures_without_a_planted_backbone(
    trap: Trap, cache: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap.plant(cache / perceptual.BACKBONE_FILES["squeeze"])
    assert main(["send", str(photo), "--snr", "20", "--rho", "1/2"]) == 0
    told = capsys.readouterr()
    (line,) = [line for line in told.err.splitlines() if "lpips_squeeze" in line]
    assert "is damaged or another file" in line
    assert "lpips" not in told.out
    assert "psnr_db" in told.out


@pytest.mark.parametrize("backbone", BACKBONES)
def test_send_refuses_a_planted_backbone_by_name(
    trap: Trap, cache: Path, photo: Path, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trap.plant(cache / perceptual.BACKBONE_FILES[backbone])
    assert main(["send", str(photo), "--snr", "20", "--metrics", f"lpips_{backbone}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged or another file" in line


def test_realism_measures_without_a_planted_inception(
    trap: Trap, cache: Path, tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(tmp_path / "kept")
    design = ["--schemes", "softcast", "--snr", "5", "--rho", "1/2", "--metrics", "psnr_db", "--keep"]
    assert main(["sweep", "--data", str(photo), *design, "--out", kept]) == 0
    capsys.readouterr()
    trap.plant(cache / realism.INCEPTION_FILE)
    assert main(["realism", kept, "--crop", "32"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "fid_inception" in line]
    assert "is damaged or another file" in line
    for name in ("fid_inception", "kid_inception"):
        assert main(["realism", kept, "--crop", "32", "--metrics", name]) == 2
        assert "is damaged or another file" in capsys.readouterr().err


# Priors


def small_unet() -> Any:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16,
        block_out_channels=(4, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )


SAFE, PICKLED = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"


@pytest.mark.parametrize("subfolder", ["", "unet"])
def test_a_pickled_model_of_diffusers_says_what_its_safetensors_say(tmp_path: Path, subfolder: str) -> None:
    small_unet().save_pretrained(tmp_path / subfolder)
    x, sigma = torch.randn(1, 3, 16, 16), torch.tensor([0.5])
    with torch.no_grad():
        expected = names.prior(str(tmp_path))(x, sigma)
        (tmp_path / subfolder / SAFE).unlink()
        (tmp_path / subfolder / PICKLED).write_bytes(saved(small_unet().state_dict()))
        assert torch.equal(names.prior(str(tmp_path))(x, sigma), expected)


@pytest.mark.parametrize("subfolder", ["", "unet"])
@pytest.mark.parametrize(
    "name", [PICKLED, SAFE, "diffusion_pytorch_model.ckpt", "part.bin", "part.safetensors"]
)
def test_a_planted_model_of_diffusers_is_not_run(
    trap: Trap, tmp_path: Path, subfolder: str, name: str
) -> None:
    folder = tmp_path / "model"
    small_unet().save_pretrained(folder / subfolder)
    (folder / subfolder / SAFE).unlink()
    trap.plant(folder / subfolder / name)
    if name.startswith("part"):
        keys = ", ".join(f'"{key}": "{name}"' for key in small_unet().state_dict())
        index = f'{{"metadata": {{}}, "weight_map": {{{keys}}}}}'
        (folder / subfolder / f"{SAFE}.index.json").write_text(index)
    with pytest.raises(MissingWeights, match=r"^prior ") as raised:
        names.prior(str(folder))
    assert "\n" not in str(raised.value)


def test_a_model_of_diffusers_without_some_of_its_weights_is_refused(tmp_path: Path) -> None:
    """diffusers fills them up by random numbers and says so in its log."""
    small_unet().save_pretrained(tmp_path)
    (tmp_path / SAFE).unlink()
    weights = small_unet().state_dict()
    assert weights.pop("conv_in.weight").shape == (4, 3, 3, 3)
    (tmp_path / PICKLED).write_bytes(saved(dict(weights)))
    with pytest.raises(MissingWeights, match=r"1 weights are missing, conv_in\.weight first"):
        names.prior(str(tmp_path))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_planted_prior_is_not_run(trap: Trap, tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingWeights):
        names.prior(str(trap.plant(tmp_path / name)))


def test_planted_weights_of_ours_are_not_run(trap: Trap, tmp_path: Path) -> None:
    path = trap.plant(tmp_path / "x.safetensors")
    with pytest.raises(MissingWeights):
        zoo.read(path)
    trap.plant(tmp_path / "manifest.json")
    with pytest.raises(MissingWeights):
        zoo.load("x", folder=tmp_path)


# Training


def test_a_planted_checkpoint_of_a_training_is_not_run(trap: Trap, tmp_path: Path) -> None:
    trap.plant(tmp_path / "checkpoint.pt")

    def nothing(*arguments: Any) -> Tensor:
        raise AssertionError

    with pytest.raises(MissingWeights, match="damaged, or more than weights"):
        Training(nn.Linear(1, 1), nothing, nothing, lambda network: 0.0, Settings(1.0), tmp_path)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_planted_shards_are_not_run(trap: Trap, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSource):
        Crops.load(trap.plant(tmp_path / name), 16)
    objects = np.array([Program(trap.marker)], object)
    if name.endswith(".npy"):
        np.save(tmp_path / name, objects)
    else:
        np.savez(tmp_path / name, shape=objects, step=objects, coded=objects, large=objects)
    with pytest.raises(InvalidSource):
        Crops.load(tmp_path / name, 16)


# The source


def chain(function: ast.expr) -> str:
    """Dotted name of what is called, as far as it has one."""
    if isinstance(function, ast.Attribute):
        return f"{chain(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


PICKLES = ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle")
FORBIDDEN = ("load_state_dict_from_url", "read_pickle", "load_from_checkpoint", "load_model_state_dict")
DEMANDED = {  # the last part of a call's name, and the argument that keeps it from running code
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "from_pretrained": ("use_safetensors", True),
}


def careless(source: str) -> list[str]:
    """Calls and imports by which a file could run code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom):
            whole = (node.module or "").split(".")[0] in PICKLES
            found += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if (whole and not alias.name.endswith("Error"))
                or alias.name in FORBIDDEN
                or (node.module in ("torch", "numpy") and alias.name == "load")
            ]
        elif isinstance(node, ast.Call):
            name = chain(node.func)
            given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            if name.split(".")[-1] in FORBIDDEN or name.startswith("torch.hub.load"):
                found.append(name)
            if given.get("allow_pickle") or given.get("pretrained") or given.get("weights_only") is False:
                found.append(name)
            for demanding, (argument, value) in DEMANDED.items():
                tokens = name.endswith("Tokenizer.from_pretrained")  # JSON files alone
                if f".{name}".endswith(f".{demanding}") and given.get(argument) is not value and not tokens:
                    found.append(name)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "torch.load(\n    path,\n    weights_only=False,\n)",
        "torch.load(path, weights_only=careless)",
        "from torch import load",
        "import pickle",
        "from pickle import load, UnpicklingError",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.open_memmap(path, allow_pickle=True)",
        "torch.hub.load('a/b', 'c')",
        "from torch.hub import load_state_dict_from_url",
        "tv.squeezenet1_1(pretrained=True)",
        "UNet2DModel.from_pretrained(source)",
        "pandas.read_pickle(path)",
    ],
)
def test_careless_source_is_found(source: str) -> None:
    assert careless(source)


def test_careful_source_is_not_blamed() -> None:
    assert not careless(
        "from pickle import UnpicklingError\nimport torch, json\n"
        "torch.load(path, map_location=device, weights_only=True)\nnp.load(path, allow_pickle=False)\n"
        "json.load(file)\nzoo.load(name)\nUNet2DModel.from_pretrained(source, use_safetensors=True)\n"
    )


def test_no_file_can_run_code_by_our_source() -> None:
    """The engine alone pickles, through the pipes to processes that it started."""
    files = [path for folder in ("channels", "semcom", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = {path.relative_to(ROOT).as_posix(): careless(path.read_text()) for path in files}
    assert {path: calls for path, calls in found.items() if calls} == {"semcom/engine.py": ["pickle"]}


def test_torch_load_is_called_at_one_place() -> None:
    calls = [
        path.relative_to(ROOT).as_posix()
        for folder in ("channels", "semcom", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and chain(node.func) == "torch.load"
    ]
    assert calls == ["semcom/checkpoints.py"]
