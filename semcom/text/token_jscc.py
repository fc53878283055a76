"""Network of DeepSC: a transformer encoder and decoder around the channel."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from semcom.surroundings import library_defaults

BLOCK = 64
"""Tokens that the transformer sees at a time."""
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

    @library_defaults()  # weights in single precision, whatever the caller's default
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


def _transformer(width: int, layers: int, heads: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, nn.functional.gelu, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
