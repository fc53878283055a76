"""Training recipe of joint source-channel coding of texts: tokens over AWGN at all SNRs and rates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from channels.streams import SharedStreams
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.text.lm import TINY, tokenizer_of
from semcom.text.token_jscc import BLOCK, TokenJSCC
from semcom.training.books import HELD_OUT, TRAINING, prose, tokens_of
from semcom.training.common import train_and_save
from semcom.training.loop import Settings

SNR_DB = (-4.0, 16.0)
USES = (1, 16)
"""Channel uses per token, drawn evenly."""
SCORED = ((0.0, 8), (6.0, 8), (6.0, 4), (12.0, 2))
"""SNR in dB and channel uses per token of the validation score."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of tokens from running text.

    Args:
        tokens: Tokens of the text.
    """

    tokens: Int[Tensor, " tokens"]

    def sample(self, batch: int, generator: torch.Generator) -> Int[Tensor, "batch block"]:
        """Draw blocks of consecutive tokens at random places.

        Args:
            batch: Number of blocks.
            generator: Source of randomness.

        Returns:
            Tokens, int64 on the device of the generator.
        """
        device = generator.device
        starts = torch.randint(len(self.tokens) - BLOCK, (batch,), generator=generator, device=device).cpu()
        return self.tokens[starts[:, None] + torch.arange(BLOCK)].long().to(device)


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    books: Path,
    batch: int = 48,
    learning_rate: float = 2e-3,
    device: str = "cpu",
) -> float:
    """Train the network, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        books: Folder of the books, see `semcom.training.books`.
        batch: Blocks per step.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.

    Returns:
        Validation score: minus the token error rate in percent, mean over `SCORED`, on a book that was not
        trained on.

    Raises:
        InvalidSource: A book is missing.
        MissingPackage: `transformers` is not installed.
    """
    torch.manual_seed(0)
    tokenizer: Any = tokenizer_of(TINY)
    tokens = torch.cat([tokens_of(tokenizer, prose(books / name)) for name in TRAINING])
    held_out = torch.cat([tokens_of(tokenizer, prose(books / name)) for name in HELD_OUT])
    step = len(held_out) // 64
    fixed = torch.stack([held_out[i * step : i * step + BLOCK] for i in range(64)]).long().to(device)
    settings = Settings(
        seconds, batch, learning_rate, ema_steps=100, validate_seconds=max(60.0, seconds / 10)
    )
    network = TokenJSCC(len(tokenizer))

    def score(model: TokenJSCC) -> float:
        return -100 * error_rate(model, fixed)

    return train_and_save(network, loss, Blocks(tokens).sample, score, settings, out, device)


def loss(network: TokenJSCC, tokens: Int[Tensor, "batch block"], rng: SharedStreams) -> Float[Tensor, ""]:
    """Cross-entropy of the tokens behind AWGN, with an SNR and a number of channel uses per block.

    Args:
        network: The network.
        tokens: Blocks of tokens.
        rng: Random streams of channel and rate.

    Returns:
        Loss in nats.
    """
    low, high = SNR_DB
    snr_db = low + (high - low) * rng.uniform("snr", (1,))[:, 0]
    uses = USES[0] + (rng.uniform("uses", (1,)) * (USES[1] - USES[0] + 1)).floor()
    sent = (torch.arange(network.reals, device=tokens.device) < 2 * uses).float()[:, None]
    noise = rng.normal("noise", (tokens.shape[1], network.reals))
    logits = through(network, tokens, sent, snr_db, noise)
    return torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), tokens)


def through(
    network: TokenJSCC, tokens: Tensor, sent: Tensor, snr_db: Tensor, noise: Tensor
) -> Float[Tensor, "batch block vocabulary"]:
    """Logits of tokens that were sent over AWGN.

    Args:
        network: The network.
        tokens: Blocks of tokens, [batch, block].
        sent: 1 for values that are sent, [batch, 1, reals].
        snr_db: Es/N0 per block in dB, [batch].
        noise: Normal random numbers, [batch, block, reals].

    Returns:
        Logits.
    """
    noise_var = 10 ** (-snr_db / 10)  # per real value of mean square 1, as N0 / 2 at Es = 2 * 1/2
    values = network.encode(tokens, sent)
    return network.decode(values + noise * noise_var.sqrt()[:, None, None], sent, noise_var)


@torch.no_grad()
def error_rate(network: TokenJSCC, tokens: Int[Tensor, "batch block"]) -> float:
    """Share of wrong tokens, mean over `SCORED`.

    Args:
        network: The network.
        tokens: Blocks of tokens.

    Returns:
        Rate in 0..1.
    """
    found = 0.0
    generator = torch.Generator().manual_seed(0)
    for snr_db, uses in SCORED:
        noise = torch.randn(*tokens.shape, network.reals, generator=generator).to(tokens.device)
        sent = (torch.arange(network.reals, device=tokens.device) < 2 * uses).float()
        at = torch.full((len(tokens),), snr_db, device=tokens.device)
        logits = through(network, tokens, sent.expand(len(tokens), 1, -1), at, noise)
        found += float((logits.argmax(-1) != tokens).float().mean()) / len(SCORED)
    return found
