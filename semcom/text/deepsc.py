"""Joint source-channel coding of texts by a transformer (DeepSC): tokens to symbols and back."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from channels import Received
from channels.header import ControlHeader, uses_for_budget
from channels.spreading import despread, spread
from semcom.modalities.text import TextShape
from semcom.observation import Decoded, Observation
from semcom.text.lm import TINY
from semcom.text.token_jscc import BLOCK, TokenJSCC
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

COUNT_BITS = 11
"""Bits of the header, which tells the number of tokens."""


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
        """Decode every reception by the network; an item is lost only if its header is out of range."""
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
