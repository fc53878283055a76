"""Joint source-channel coding of texts by a transformer (DeepSC): tokens to symbols and back."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from channels import Received
from channels.header import ControlHeader, uses_for_budget
from channels.spreading import despread, spread
from semcom.modalities.text import TextShape
from semcom.observation import Decoded, Observation
from semcom.text.lm import TINY
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

BLOCK = 64
"""Tokens that the transformer sees at a time."""
COUNT_BITS = 11
"""Bits of the header, which tells the number of tokens."""
NOISE_DB = (-30.0, 10.0)  # range of 10 log10 N0 that the decoder is told


class TokenJSCC(nn.Module):
    """Transformer encoder and decoder around the channel, for all SNRs and numbers of symbols per token.

    The encoder maps each token, seen with those around it, to `reals` real values, most important first; with
    u complex channel uses per token the first 2u are sent. The decoder gets the noisy values, which of them
    were sent, and the noise variance, and returns logits of the tokens.

    Args:
        vocabulary: Number of tokens.
        width: Width of the transformer.
        layers: Layers of encoder and decoder each.
        heads: Attention heads.
        reals: Most real values per token, even.

    Reference:
        Xie, Qin, Li and Juang, "Deep learning enabled semantic communication systems", IEEE Trans. Signal
        Process. 69, 2021; there a vocabulary of words, 16 values per word and one sentence at a time.
    """

    def __init__(
        self, vocabulary: int = 1024, width: int = 128, layers: int = 2, heads: int = 8, reals: int = 32
    ):
        super().__init__()
        self.config = {
            "vocabulary": vocabulary,
            "width": width,
            "layers": layers,
            "heads": heads,
            "reals": reals,
        }
        self.reals = reals
        self.embedding = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(BLOCK, width))
        self.encoder = _transformer(width, layers, heads)
        self.to_symbols = nn.Linear(width, reals)
        self.from_symbols = nn.Linear(2 * reals + 1, width)
        self.decoder = _transformer(width, layers, heads)
        self.to_tokens = nn.Linear(width, vocabulary)

    @property
    def name(self) -> str:
        """Canonical name, always "deepsc"."""
        return "deepsc"

    def encode(
        self, tokens: Int[Tensor, "batch length"], sent: Float[Tensor, "batch #length reals"]
    ) -> Float[Tensor, "batch length reals"]:
        """Real values of tokens, of mean square 1 per block over those that are sent.

        Args:
            tokens: Blocks of at most `BLOCK` tokens.
            sent: 1 for values that are sent, 0 for others.

        Returns:
            Values, 0 where not sent.
        """
        hidden = self.encoder(self.embedding(tokens) + self.places[: tokens.shape[1]])
        values = self.to_symbols(hidden) * sent
        energy = values.square().mean((1, 2), keepdim=True) / sent.mean((1, 2), keepdim=True)
        return values * energy.clamp_min(1e-9).rsqrt()

    def decode(
        self,
        values: Float[Tensor, "batch length reals"],
        sent: Float[Tensor, "batch #length reals"],
        noise_var: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Logits of tokens from noisy values.

        Args:
            values: Values plus noise.
            sent: 1 for values that were sent, 0 for others.
            noise_var: Noise variance per real value.

        Returns:
            Logits.
        """
        low, high = NOISE_DB
        noise_db = (10 * noise_var.clamp_min(1e-9).log10()).clamp(low, high) / high
        shrunk = values * sent / (1 + noise_var[:, None, None]).sqrt()  # of mean square 1
        told = torch.cat(
            (shrunk, sent.expand_as(shrunk), noise_db[:, None, None].expand(*shrunk.shape[:2], 1)), 2
        )
        hidden = self.from_symbols(told) + self.places[: values.shape[1]]
        return self.to_tokens(self.decoder(hidden))


@dataclass(frozen=True)
class DeepSC:
    """Transmission of texts by `TokenJSCC`: every text gets through, with wrong tokens where noise is strong.

    The tokens of a text are sent in blocks of `BLOCK`, each with as many channel uses per token as there are;
    a header tells their number. The symbols are spread over all channel uses (`channels.spreading`), so that
    fading and losses look like noise to the network. The text that comes out is always shown.

    Args:
        network: Encoder and decoder.
        tokenizer: Name of the tokenizer, "tiny" for that of the language model of this package.
        device: Device of the network; symbols are passed on the CPU.
    """

    network: TokenJSCC
    tokenizer: str = "tiny"
    device: str = field(default="cpu", compare=False)

    @property
    def name(self) -> str:
        """Canonical name, always "deepsc"."""
        return self.network.name

    @property
    def csit(self) -> Csit:
        """Always "none": the encoder knows nothing of the channel."""
        return "none"

    def send(self, x: str, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode the tokens of a text into symbols of mean power 1."""
        tokens = _tokenizer().encode(x, add_special_tokens=False)
        header, free = _header(uses)
        if not tokens or len(tokens) >= 1 << COUNT_BITS or len(tokens) > free:
            return nothing_sent(
                f"{len(tokens)} tokens: 1 to {min(free, 2047)} are sent in {uses} channel uses; raise rho, "
                "or split the text"
            )
        per_token, sent = self._rate(len(tokens), free)
        with torch.no_grad():
            ids = torch.tensor(tokens, device=self.device)
            values = torch.cat([self.network.encode(block[None], sent)[0] for block in ids.split(BLOCK)])
        reals = values[:, : 2 * per_token].cpu().reshape(-1, 2)
        symbols = torch.zeros(1, free, dtype=torch.complex64)
        symbols[0, : len(reals)] = torch.view_as_complex(reals.contiguous())
        symbols *= (free / symbols.abs().square().sum()).sqrt()
        whole = torch.zeros(1, uses, dtype=torch.complex64)
        whole[:, header.positions()] = header.encode(len(tokens))
        whole[:, header.payload_positions()] = spread(symbols)
        return Sent(whole, info={"uses_per_token": float(per_token)})

    def receive(self, received: Received, shape: TextShape, uses: int) -> list[Observation[str]]:
        """Decode every reception by the network; lost is only what has an impossible number of tokens."""
        return [self._observed(received.item(i)) for i in range(received.y.shape[0])]

    def _observed(self, received: Received) -> Observation[str]:
        header, free = _header(received.y.shape[1])
        count = int(header.decode(_at(received, header.positions())))
        if not 0 < count <= free:
            return Observation(None)
        per_token, sent = self._rate(count, free)
        heard = despread(_at(received, header.payload_positions()))
        gain = heard.h[0, 0].abs().clamp_min(1e-6)
        used = count * per_token
        scale = math.sqrt(2 * used / free)  # symbols of mean power 2 per use, two values of mean square 1
        values = torch.view_as_real((heard.y[0, :used] / gain * scale).to(torch.complex64)).reshape(count, -1)
        noise_var = float(heard.noise_var.flatten()[0] / 2 / gain**2 * scale**2)
        padded = torch.zeros(count, self.network.reals)
        padded[:, : values.shape[1]] = values
        tokens: list[int] = []
        with torch.no_grad():
            for block in padded.split(BLOCK):
                logits = self.network.decode(
                    block[None].to(self.device), sent, torch.tensor([noise_var], device=self.device)
                )
                tokens += logits[0].argmax(-1).tolist()
        text = _tokenizer().decode(tokens, clean_up_tokenization_spaces=False)
        return Observation(text, (Decoded(text),))

    def _rate(self, count: int, free: int) -> tuple[int, Float[Tensor, "1 1 reals"]]:
        """Channel uses per token, and which values are sent."""
        per_token = min(self.network.reals // 2, free // count)
        sent = (torch.arange(self.network.reals) < 2 * per_token).float()
        return per_token, sent[None, None].to(self.device)


def _transformer(width: int, layers: int, heads: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, nn.functional.gelu, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


def _header(uses: int) -> tuple[ControlHeader, int]:
    size = min(uses_for_budget(uses), uses)
    return ControlHeader(COUNT_BITS, size, uses), uses - size


def _at(received: Received, positions: Int[Tensor, " n"]) -> Received:
    y, h = received.y[:, positions], received.h.expand_as(received.y)[:, positions]
    return Received(y, h, received.noise_var.expand(received.y.shape)[:, positions])


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from semcom.text.lm import tokenizer_of

    return tokenizer_of(TINY)
