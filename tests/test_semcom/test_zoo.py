"""Trained networks are checked before they are believed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from semcom import zoo
from semcom.errors import MissingWeights, TrainingDiverged, UnknownName
from semcom.jscc.bourtsoulatze2019 import Bourtsoulatze2019
from semcom.refiner import PictureRefiner
from semcom.text.token_jscc import TokenJSCC

NAME = "toy"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.json").write_text("{}")
    trained = tmp_path / "trained.safetensors"
    zoo.save(Bourtsoulatze2019(2, widths=(4, 4, 4, 4)), trained)
    zoo.ship(trained, NAME, tmp_path)
    return tmp_path


def test_a_network_comes_back_with_its_config_and_rounded_weights(tmp_path: Path) -> None:
    network = Bourtsoulatze2019(4, (2, 2, 2, 1, 1), (4, 5, 6, 7))
    zoo.save(network, tmp_path / "x.safetensors")
    read = zoo.read(tmp_path / "x.safetensors")
    assert isinstance(read, Bourtsoulatze2019)
    assert read.config == network.config
    assert not read.training
    for key, value in network.state_dict().items():
        assert read.state_dict()[key].dtype == torch.float32
        assert torch.equal(read.state_dict()[key], value.half().float())


@pytest.mark.parametrize("weight", [torch.nan, 65520.0])
def test_weights_that_fp16_cannot_hold_are_not_written(tmp_path: Path, weight: float) -> None:
    network = Bourtsoulatze2019(2, widths=(4, 4, 4, 4))
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = weight
    with pytest.raises(TrainingDiverged, match="weights that are no numbers or beyond 65504"):
        zoo.save(network, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_every_shipped_network_loads_and_has_a_model_card() -> None:
    for name in zoo.names():
        network = zoo.load(name)
        if not isinstance(network, PictureRefiner):  # of which there are two
            assert network.name == name
        assert len(zoo.sha256(name)) == 64
        card = (zoo.WEIGHTS / f"{name}.md").read_text()
        if isinstance(network, TokenJSCC):
            assert "books" in card
        else:
            assert "photos/train" in card
            assert "Kodak" in card


def test_an_unknown_name_lists_the_known(folder: Path) -> None:
    with pytest.raises(UnknownName, match="'gone'; there are toy"):
        zoo.load("gone", folder=folder)


def test_a_missing_file(folder: Path) -> None:
    (folder / f"{NAME}.safetensors").unlink()
    for look in (zoo.load, zoo.find):
        with pytest.raises(MissingWeights, match="is missing"):
            look(NAME, folder=folder)


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file(folder: Path, tenth: int) -> None:
    path = folder / f"{NAME}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenth // 10])
    with pytest.raises(MissingWeights) as by_digest:
        zoo.load(NAME, folder=folder)
    with pytest.raises(MissingWeights) as by_content:
        zoo.read(path)
    assert "\n" not in str(by_digest.value)
    assert "\n" not in str(by_content.value)


def test_one_flipped_bit(folder: Path) -> None:
    path = folder / f"{NAME}.safetensors"
    whole = bytearray(path.read_bytes())
    assert zoo.find(NAME, folder) == path
    whole[-5] ^= 1
    path.write_bytes(bytes(whole))
    for look in (zoo.load, zoo.find):
        with pytest.raises(MissingWeights, match="SHA-256"):
            look(NAME, folder=folder)
    assert zoo.find(path, folder) == path  # a file by its path is what its owner says


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "0"),
        ("class", "Unheard"),
        ("config", "{"),
        ("config", json.dumps({"features": 6})),
        ("config", json.dumps({"depth": 3})),
        ("config", json.dumps([8])),
        ("config", json.dumps({"features": 2, "strides": [2, 2, 1, 1, 1, 1]})),
    ],
)
def test_a_file_of_another_kind(folder: Path, key: str, value: str) -> None:
    path = folder / f"{NAME}.safetensors"
    config = json.dumps({"features": 2, "widths": [4, 4, 4, 4]})
    metadata = {"format": zoo.FORMAT, "class": "Bourtsoulatze2019", "config": config}
    tensors = load_file(path)
    save_file(tensors, path, metadata)
    zoo.read(path)
    save_file(tensors, path, metadata | {key: value})
    with pytest.raises(MissingWeights) as caught:
        zoo.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"toy": 3}'])
def test_a_damaged_manifest(folder: Path, content: str | None) -> None:
    manifest = folder / "manifest.json"
    manifest.unlink() if content is None else manifest.write_text(content)
    with pytest.raises(MissingWeights):
        zoo.load(NAME, folder=folder)
