"""Diffusion priors trained elsewhere: unconditional pixel models of diffusers and guided-diffusion."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semcom import checkpoints
from semcom.errors import MissingWeights, reason_of
from semcom.guided_diffusion import Checkpoint
from semcom.surroundings import ignored_warnings, library_defaults
from semcom.tiles import Tiled

Prediction = Literal["epsilon", "sample", "v_prediction"]
PREDICTIONS = ("epsilon", "sample", "v_prediction")
SCHEDULERS = (
    *("DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "PNDM", "RePaint"),
    *("DPMSolverMultistep", "DPMSolverMultistepInverse", "DPMSolverSinglestep", "DPMSolverSDE"),
    *("DEISMultistep", "UniPCMultistep", "SASolver", "EulerDiscrete", "EulerAncestralDiscrete"),
    *("HeunDiscrete", "LMSDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete"),
)
"""Schedulers of diffusers (without the suffix Scheduler) whose networks suit `VariancePreserving`."""
LATENT = ("vae", "vqvae", "movq")  # parts of pipelines whose networks see codes, not pixels
SAFE_WEIGHTS = "diffusion_pytorch_model.safetensors"
SAFE_INDEX = f"{SAFE_WEIGHTS}.index.json"
PICKLED_WEIGHTS = "diffusion_pytorch_model.bin"
GUIDED_SIZE = 256  # pixels, of pictures that most checkpoints of guided-diffusion were trained on


@dataclass(frozen=True, eq=False)
class VariancePreserving:
    """Denoiser of x0 + sigma n from a network trained on x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) n.

    x_t = x / sqrt(1 + sigma^2) at the t with (1 - abar_t) / abar_t = sigma^2, a real number between two
    training steps. Of networks that predict a variance as well, the first three outputs are used. Pictures
    are extended by repeating their edges to a multiple of `multiple` pixels.

    Args:
        network: Network of x_t and t whose result has the attribute `sample`.
        abar: Cumulative product of 1 - beta over the training steps, falling, [steps].
        prediction: What the network predicts, "epsilon", "sample" or "v_prediction".
        multiple: Number of pixels of which the sides must be multiples.
    """

    network: nn.Module
    abar: Float[Tensor, " steps"]
    prediction: Prediction = "epsilon"
    multiple: int = 1

    def __call__(
        self, x: Float[Tensor, "batch 3 height width"], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Posterior mean of x0 given x [batch, 3, height, width] at noise levels sigma [batch].

        Values are in [-1, 1] up to errors.
        """
        height, width = x.shape[2:]
        x = nn.functional.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        level = sigma[:, None, None, None]
        kept = (1 + level**2).rsqrt()  # sqrt(abar)
        told = self.network(x * kept, self.step_of(sigma)).sample[:, :3]
        if self.prediction == "epsilon":
            clean = x - level * told
        elif self.prediction == "sample":
            clean = told
        else:
            clean = kept * (x * kept) - level * kept * told
        return clean[:, :, :height, :width]

    def step_of(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Training step t with (1 - abar_t) / abar_t = sigma^2, by interpolation of ln sigma.

        Args:
            sigma: Noise levels, above 0, [batch].

        Returns:
            t, real numbers, [batch].
        """
        known = ((1 - self.abar) / self.abar).log().to(sigma) / 2
        wanted = sigma.log().clamp(float(known[0]), float(known[-1]))
        above = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
        low, high = known[above - 1], known[above]
        return above - 1 + (wanted - low) / (high - low)


def from_diffusers(source: str) -> Tiled:
    """Load an unconditional pixel model of diffusers as a denoiser.

    Pictures larger than those the network was trained on are processed in tiles of that size.

    Args:
        source: Name on the hub, such as "google/ddpm-celebahq-256", or a folder of a pipeline or network that
            was written by `save_pretrained`.

    Returns:
        The denoiser.

    Raises:
        MissingWeights: Not there, not reachable, damaged, more than weights, or a network of another kind.
    """
    folder = Path(source)
    if not folder.is_dir() and source.count("/") != 1:
        raise MissingWeights(
            f"prior {source}: neither a folder nor a name on the hub, like google/ddpm-celebahq-256"
        )
    try:
        network, scheduler, kind = _loaded(source)
        config = json.loads(json.dumps(dict(network.config), default=str))
        prediction = str(scheduler.config["prediction_type"])
    except Exception as error:  # diffusers and the hub raise what they like
        raise MissingWeights(
            f"prior {source}: {reason_of(error)}; give a folder of diffusers, or look after the network"
        ) from None
    wrong = kind or _not_told_alone(config)
    if config.get("in_channels") != 3 or prediction not in PREDICTIONS:
        wrong = wrong or f"{config.get('in_channels')} features in, predicts {prediction}"
    if wrong:
        raise MissingWeights(f"prior {source}: {wrong}; take an unconditional model of RGB pixels")
    network = network.eval().requires_grad_(False)
    multiple = 2 ** (len(config["block_out_channels"]) - 1)
    denoiser = VariancePreserving(network, scheduler.alphas_cumprod, prediction, multiple)  # pyright: ignore
    size = config.get("sample_size") or 256
    size = int(size if isinstance(size, int) else min(size))
    return Tiled(denoiser, size, size // 4)


def from_guided_diffusion(path: Path) -> Tiled:
    """Load a checkpoint of guided-diffusion: an unconditional pixel model with a linear noise schedule.

    The schedule is taken to be beta from 0.0001 to 0.02 in 1000 steps, which the file does not record: that
    of its models of 256x256 pixels, and of models of others trained with its code (FFHQ of Choi et al. 2022,
    for instance).

    Args:
        path: Checkpoint, .pt.

    Returns:
        The denoiser.

    Raises:
        MissingWeights: Not there, damaged, more than weights, or a network of another kind.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    try:
        weights = checkpoints.load(path)
        checkpoint = Checkpoint(weights)
        config: Any = checkpoint.config
        network = UNet2DModel(sample_size=GUIDED_SIZE, **config)
        network.load_state_dict(checkpoint.renamed())
    except Exception as error:  # whatever a file can hold
        raise MissingWeights(
            f"prior {path}: {reason_of(error)}; give a checkpoint of guided-diffusion"
        ) from None
    network = network.eval().requires_grad_(False)
    multiple = 2 ** (len(config["block_out_channels"]) - 1)
    denoiser = VariancePreserving(network, DDPMScheduler().alphas_cumprod, "epsilon", multiple)
    return Tiled(denoiser, GUIDED_SIZE, GUIDED_SIZE // 4)


@library_defaults()
def _loaded(source: str) -> tuple[Any, Any, str]:
    """Network, training scheduler, and the reason why it is not a model of pixels (empty if it is).

    Messages of the hub are not shown. A network alone gets the scheduler of DDPM.
    """
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with ignored_warnings():
        network = _network(source, "unet" if _settings(source, "unet/config.json") else "")
        name = "scheduler_config.json"
        schedule = _settings(source, f"scheduler/{name}") or _settings(source, name)
        if not schedule and not Path(source).is_dir():
            raise FileNotFoundError(f"no {name}")
        kind = _kind(_settings(source, "model_index.json"), schedule)
        scheduler = DDPMScheduler() if kind else DDPMScheduler.from_config(schedule)
    return network, scheduler, kind


def _network(source: str, subfolder: str) -> Any:
    """The network, from safetensors, or from a pickled file that holds tensors alone.

    Raises:
        ValueError: Some of its weights are not in the files, or a file holds more than weights.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel
    from safetensors.torch import save_file

    at = f"{subfolder}/" if subfolder else ""
    parts = _settings(source, at + SAFE_INDEX).get("weight_map", {}).values()
    if not all(str(part).endswith(".safetensors") for part in parts):
        raise ValueError(f"{at}{SAFE_INDEX} names files that are not safetensors")
    pickled = None if parts or _file(source, at + SAFE_WEIGHTS) else _file(source, at + PICKLED_WEIGHTS)
    if pickled is None:
        return _from_safetensors(UNet2DModel, source, subfolder or None)
    weights = checkpoints.load_tensors(pickled, PICKLED_WEIGHTS)
    with TemporaryDirectory() as folder:  # diffusers knows the older names of weights, and reads files alone
        (Path(folder) / "config.json").write_text(json.dumps(_settings(source, at + "config.json")))
        copies = {key: value.clone().contiguous() for key, value in weights.items()}
        save_file(copies, Path(folder) / SAFE_WEIGHTS)
        return _from_safetensors(UNet2DModel, folder, None)


def _from_safetensors(network: Any, source: str, subfolder: str | None) -> Any:
    """A network of diffusers, from safetensors alone; it would fill up missing weights by random ones."""
    found, told = network.from_pretrained(
        source, subfolder=subfolder, use_safetensors=True, disable_mmap=True, output_loading_info=True
    )
    if told["missing_keys"]:
        raise ValueError(f"{len(told['missing_keys'])} weights are missing, {told['missing_keys'][0]} first")
    return found


def _settings(source: str, name: str) -> dict[str, Any]:
    """A JSON file of a folder or of the hub; empty where there is none."""
    path = _file(source, name)
    return {} if path is None else dict(json.loads(path.read_text()))


def _file(source: str, name: str) -> Path | None:
    """Where a file of a folder or of the hub is, if there is one; that of the hub is downloaded."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    folder = Path(source)
    try:
        path = folder / name if folder.is_dir() else Path(hf_hub_download(source, name))
    except EntryNotFoundError:
        return None
    return path if path.is_file() else None


def _kind(pipeline: dict[str, Any], schedule: dict[str, Any]) -> str:
    """Kind of the model if it is not a diffusion model of pixels, else empty."""
    latent = [part for part in LATENT if part in pipeline]
    if latent or str(pipeline.get("_class_name")).startswith("LDM"):
        return f"a latent model ({', '.join(latent) or pipeline['_class_name']})"
    scheduler = str(schedule.get("_class_name", "DDPMScheduler"))
    known = scheduler.removesuffix("Scheduler") in SCHEDULERS
    return "" if known else f"trained for {scheduler}, not for DDPM or what samples like it"


def _not_told_alone(network: dict[str, Any]) -> str:
    """Additional input that the network needs beside x_t and the step, else empty."""
    time = network.get("time_embedding_type")
    if time != "positional":
        return f"{time} embedding of noise levels, not positional of steps"
    classes = network.get("num_class_embeds") or network.get("class_embed_type")
    return f"told classes ({classes})" if classes else ""
