"""Small transformers on sources of known entropy: how low does the loss of a language model go?"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from channels.streams import SharedStreams
from semcom.memory.memorisation import Grammar, memorised_bits
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.loop import Settings, Training

LENGTH = 64
"""Words of a training sequence."""
SKIPPED = 2
"""Words at the beginning of a sequence that no rule predicts; they count in no loss."""


class TinyTransformer(nn.Module):
    """Causal transformer with learned positions and tied embeddings.

    Args:
        words: Size of the vocabulary.
        width: Dimension of embeddings, a multiple of `heads`.
        layers: Number of layers.
        heads: Number of attention heads.
        length: Largest number of words of a sequence.
    """

    def __init__(self, words: int, width: int = 128, layers: int = 2, heads: int = 4, length: int = LENGTH):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        nn.init.normal_(self.embedding.weight, std=0.02)
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, words: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length words"]:
        """Logits of the word after each position.

        Args:
            words: Words, [batch, length].

        Returns:
            Logits, [batch, length, words].
        """
        return self.norm(self.states(words)) @ self.embedding.weight.T

    def states(self, words: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """Vectors of the last layer.

        Args:
            words: Words, [batch, length].

        Returns:
            Vectors before the last normalisation, [batch, length, width].
        """
        length = words.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=words.device).triu(1)
        return self.blocks(self.embedding(words) + self.position[:length], mask=mask, is_causal=True)

    def losses(self, words: Int[Tensor, "batch length"]) -> Float[Tensor, "batch rest"]:
        """Loss of every word but the first, given those before it.

        Args:
            words: Words, [batch, length].

        Returns:
            Nats, [batch, length - 1].
        """
        logits = self(words[:, :-1])
        return nn.functional.cross_entropy(logits.transpose(1, 2), words[:, 1:], reduction="none")


@dataclass(frozen=True, slots=True)
class Plateau:
    """Loss of a language model on a source of known entropy.

    Args:
        entropy: Entropy rate of the source, nats per word.
        training_nats: Loss on the training sequences, nats per word.
        held_out_nats: Loss on new sequences.
        ideal_nats: Loss of the true probabilities on the same new sequences.
        parameters: Number of weights.
        steps: Number of training steps.
    """

    entropy: float
    training_nats: float
    held_out_nats: float
    ideal_nats: float
    parameters: int
    steps: int


@library_defaults()
@own_random_numbers()
def plateau(
    grammar: Grammar,
    seconds: float,
    out: Path,
    tokens: int = 1_000_000,
    width: int = 128,
    layers: int = 2,
    batch: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Plateau:
    """Train a transformer on a grammar and measure its loss.

    Args:
        grammar: The source.
        seconds: Duration of the training in wall-clock seconds; a run that was stopped continues.
        out: Folder of `checkpoint.pt` and `curve.csv`.
        tokens: Words of the training set.
        width: Width of the transformer.
        layers: Number of its layers.
        batch: Sequences per step.
        learning_rate: Peak learning rate of Adam.
        seed: Seed of weights, training set and order.

    Returns:
        Losses.
    """
    torch.manual_seed(seed)
    network = TinyTransformer(grammar.words, width, layers)
    known = grammar.sample(tokens // LENGTH, LENGTH, seed)
    new = grammar.sample(512, LENGTH, seed + 1_000_000)

    def score(model: nn.Module) -> float:
        return -nats_per_word(model, new)

    settings = Settings(
        seconds, batch, learning_rate, ema_steps=100, validate_seconds=max(15.0, seconds / 16), seed=seed
    )
    training = Training(network, loss, Rows(known).sample, score, settings, out)
    trained = training.run()
    seen = torch.linspace(0, len(known) - 1, 512).long()
    return Plateau(
        grammar.entropy,
        nats_per_word(trained, known[seen]),
        nats_per_word(trained, new),
        -float(grammar.log_probabilities(new).mean()),
        sum(parameter.numel() for parameter in network.parameters()),
        training.step,
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Training set of sequences.

    Args:
        words: Sequences of words, [sequences, length].
    """

    words: Int[Tensor, "sequences length"]

    def sample(self, batch: int, generator: torch.Generator) -> Int[Tensor, "batch length"]:
        """Draw sequences with replacement.

        Args:
            batch: Number of sequences.
            generator: Source of randomness.

        Returns:
            Sequences, [batch, length].
        """
        return self.words[torch.randint(len(self.words), (batch,), generator=generator)]


def loss(network: nn.Module, words: Int[Tensor, "batch length"], rng: SharedStreams) -> Float[Tensor, ""]:
    """Mean loss of all words that a rule predicts.

    Args:
        network: A `TinyTransformer`.
        words: Sequences of words.
        rng: Random streams, which are not used.

    Returns:
        Nats per word.
    """
    assert isinstance(network, TinyTransformer)
    return network.losses(words)[:, SKIPPED - 1 :].mean()


@torch.no_grad()
def nats_per_word(network: nn.Module, words: Int[Tensor, "sequences length"]) -> float:
    """Mean loss of a network on sequences.

    Args:
        network: A `TinyTransformer`.
        words: Sequences of words.

    Returns:
        Nats per word.
    """
    assert isinstance(network, TinyTransformer)
    return float(network.losses(words)[:, SKIPPED - 1 :].mean(dtype=torch.float64))


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a transformer stored of random sequences.

    Args:
        parameters: Number of weights N.
        sequences: Number of sequences d.
        bits: Bits stored, of all sequences together.
        offered_bits: Bits that there were to store.
        gap_nats: Loss per word on new random sequences less that on the sequences stored.
        steps: Number of training steps.
    """

    parameters: int
    sequences: int
    bits: float
    offered_bits: float
    gap_nats: float
    steps: int


@library_defaults()
@own_random_numbers()
def capacity(
    width: int,
    sequences: int,
    seconds: float,
    out: Path,
    words: int = 68,
    length: int = 16,
    layers: int = 1,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> Capacity:
    """Train a transformer on uniformly random sequences, and count the bits that it stored.

    Args:
        width: Width of the transformer, a multiple of 4.
        sequences: Number of sequences d.
        seconds: Duration of the training in wall-clock seconds.
        out: Folder of the checkpoint.
        words: Size of the vocabulary.
        length: Words of a sequence.
        layers: Number of layers.
        learning_rate: Peak learning rate of Adam.
        seed: Seed of weights and sequences.

    Returns:
        Bits stored and offered; the first word of a sequence counts in neither.
    """
    torch.manual_seed(seed)
    network = TinyTransformer(words, width, layers, length=length)
    generator = torch.Generator().manual_seed(seed + 7)
    drawn = torch.randint(words, (sequences + 256, length), generator=generator)
    known, new = drawn[:sequences], drawn[sequences:]

    def mean_nats(model: nn.Module, rows: Tensor) -> Tensor:
        assert isinstance(model, TinyTransformer)
        with torch.no_grad():
            return model.losses(rows)

    settings = Settings(
        seconds, min(256, sequences), learning_rate, ema_steps=50, validate_seconds=seconds / 3, seed=seed
    )
    training = Training(
        network,
        lambda model, batch, _: model.losses(batch).mean(),  # pyright: ignore[reportCallIssue]
        Rows(known).sample,
        lambda model: -float(mean_nats(model, known).mean()),
        settings,
        out,
    )
    trained = training.run()
    nats = mean_nats(trained, known)
    return Capacity(
        sum(parameter.numel() for parameter in network.parameters()),
        sequences,
        memorised_bits(nats, words),
        sequences * (length - 1) * math.log2(words),
        float(mean_nats(trained, new).mean() - nats.mean()),
        training.step,
    )
