"""Models of diffusers as denoisers, against the schedulers of diffusers; tiles against the whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from precision import rounding
from torch import Tensor

from semcom import names
from semcom.errors import InvalidOption, MissingWeights
from semcom.foreign_priors import VariancePreserving, from_diffusers
from semcom.tiles import Tiled
from tests.golden.make_guided_diffusion import STEPS, filled, seen

GOLDEN = Path(__file__).parents[1] / "golden/guided_diffusion.npz"


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_a_model_of_diffusers_denoises_as_its_scheduler_says(tmp_path: Path, prediction: str) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    )
    scheduler = DDPMScheduler(prediction_type=prediction, clip_sample=False)
    DDPMPipeline(network, scheduler).save_pretrained(tmp_path)
    denoiser = from_diffusers(str(tmp_path))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for step in (3, 500, 990):
        abar = scheduler.alphas_cumprod[step]
        sigma = ((1 - abar) / abar).sqrt()
        x_t = abar.sqrt() * x
        with torch.no_grad():
            told = network.eval()(x_t, step).sample
            found = denoiser(x, sigma.expand(2))
        expected = scheduler.step(told, step, x_t).pred_original_sample
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(1 + sigma))


def small_network(**differing: Any) -> Any:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16,
        block_out_channels=(4, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        **differing,
    )


def test_odd_sizes_and_sizes_beyond_training(tmp_path: Path) -> None:
    small_network().save_pretrained(tmp_path)
    denoiser = from_diffusers(str(tmp_path))
    with torch.no_grad():
        for height, width in ((15, 13), (16, 45), (37, 21)):
            shown = denoiser(torch.randn(1, 3, height, width), torch.tensor([0.3]))
            assert shown.shape == (1, 3, height, width)
            assert bool(shown.isfinite().all())


def test_what_is_no_prior_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="prior"):
        from_diffusers(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingWeights, match="prior"):
        from_diffusers(str(tmp_path))


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    from diffusers import CMStochasticIterativeScheduler, DDIMScheduler, ScoreSdeVeScheduler

    linear = DDIMScheduler()
    cases = [
        ("fine", linear, {}, {}, ""),
        ("ve", ScoreSdeVeScheduler(), {}, {}, "trained for ScoreSdeVeScheduler"),
        ("consistency", CMStochasticIterativeScheduler(), {}, {}, "trained for CMStochasticIterativeSchedul"),
        ("fourier", linear, {"time_embedding_type": "fourier"}, {}, "fourier embedding"),
        ("classes", linear, {"num_class_embeds": 10}, {}, r"told classes \(10\)"),
        ("embedded", linear, {"class_embed_type": "timestep"}, {}, r"told classes \(timestep\)"),
        ("latent", linear, {}, {"vqvae": ["diffusers", "VQModel"]}, r"a latent model \(vqvae\)"),
        ("ldm", linear, {}, {"_class_name": "LDMPipeline"}, r"a latent model \(LDMPipeline\)"),
    ]
    for name, scheduler, differing, pipeline, text in cases:
        folder = tmp_path / name
        small_network(**differing).save_pretrained(folder / "unet")
        scheduler.save_pretrained(folder / "scheduler")
        (folder / "model_index.json").write_text(json.dumps(pipeline))
        if not text:
            from_diffusers(str(folder))
            continue
        with pytest.raises(MissingWeights, match=text) as raised:
            from_diffusers(str(folder))
        assert "\n" not in str(raised.value)
        assert "unconditional model of RGB pixels" in str(raised.value)


def test_the_noise_of_training_is_read_beside_a_network_too(tmp_path: Path) -> None:
    """Older pipelines of the hub have no subfolders."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    small_network().save_pretrained(tmp_path)
    scheduler.save_pretrained(tmp_path)
    tiled = from_diffusers(str(tmp_path))
    assert isinstance(tiled.denoiser, VariancePreserving)
    torch.testing.assert_close(tiled.denoiser.abar, scheduler.alphas_cumprod)


def checkpoint(case: str) -> dict[str, Tensor]:
    with np.load(GOLDEN) as golden:
        return filled(json.loads(str(golden[f"{case}/shapes"])))


@pytest.mark.parametrize("case", ["blocks", "convolutions"])
def test_a_checkpoint_of_guided_diffusion_says_what_its_own_code_says(tmp_path: Path, case: str) -> None:
    torch.save(checkpoint(case), tmp_path / "model.pt")
    tiled = names.prior(str(tmp_path / "model.pt"))
    assert isinstance(tiled, Tiled)
    assert isinstance(tiled.denoiser, VariancePreserving)
    with torch.no_grad():
        shown = tiled(seen(), torch.tensor([0.1, 2.0]))
        answer = tiled.denoiser.network.double()(seen().double(), torch.tensor(STEPS)).sample
    with np.load(GOLDEN) as golden:
        expected = torch.from_numpy(golden[f"{case}/answer"])
    # Theirs is in float32: all sums that may follow one another, of values that norms keep at about 1
    terms = sum(weight[0].numel() for weight in checkpoint(case).values() if weight.dim() > 1)
    tolerance = rounding(torch.float32, terms, float(expected.abs().max()))
    torch.testing.assert_close(answer, expected.double(), rtol=0, atol=tolerance)
    assert shown.shape == seen().shape


def test_what_is_no_checkpoint_of_guided_diffusion_is_one_line(tmp_path: Path) -> None:
    path, whole = tmp_path / "model.pt", checkpoint("blocks")
    with pytest.raises(MissingWeights, match="No such file"):
        names.prior(str(path))
    for content, text in (
        (b"no checkpoint", "prior"),
        ({"weight": torch.zeros(3)}, "without time_embed"),
        (whole | {"label_emb.weight": torch.zeros(10, 256)}, "for classes"),
        (whole | {"input_blocks.0.0.weight": torch.zeros(64, 6, 3, 3)}, "6 features in"),
        (whole | {"input_blocks.0.0.weight": torch.zeros(32, 3, 3, 3)}, "first level of 32"),
        (whole | {"other.weight": torch.zeros(1)}, "has no place"),
        ({k: v for k, v in whole.items() if "middle_block.1" not in k}, "loading state_dict"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(MissingWeights, match=text) as raised:
            names.prior(str(path))
        assert "\n" not in str(raised.value)


def test_steps_between_those_of_training() -> None:
    abar = torch.tensor([0.9, 0.5, 0.1])
    prior = VariancePreserving(torch.nn.Identity(), abar)
    sigma = ((1 - abar) / abar).sqrt()
    torch.testing.assert_close(prior.step_of(sigma), torch.tensor([0.0, 1.0, 2.0]))
    between = (sigma[0] * sigma[1]).sqrt()
    torch.testing.assert_close(prior.step_of(between[None]), torch.tensor([0.5]))
    torch.testing.assert_close(prior.step_of(torch.tensor([1e-9, 1e9])), torch.tensor([0.0, 2.0]))


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """What a network does: a mean over a neighbourhood, edges repeated."""
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 5, 1)


def test_tiles_are_seamless() -> None:
    x = torch.rand(1, 3, 75, 130, generator=torch.Generator().manual_seed(0))
    sigma = torch.ones(1)
    unchanged = Tiled(lambda x, sigma: x, 32, 8)(x, sigma)
    torch.testing.assert_close(unchanged, x)
    tiled, whole = Tiled(blurred, 32, 12)(x, sigma), blurred(x, sigma)
    assert float((tiled - whole).abs().max()) < 0.05
    assert float((tiled - whole).abs().mean()) < 2e-3
    torch.testing.assert_close(Tiled(blurred, 200, 12)(x, sigma), whole)
    with pytest.raises(InvalidOption, match="below half"):
        Tiled(blurred, 32, 16)
