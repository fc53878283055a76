"""Training recipe of the small language model that ships with the package: books, and numbers to look up."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from channels.streams import SharedStreams
from semcom.errors import MissingPackage
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.text.tasks import stated
from semcom.training.books import HELD_OUT, TRAINING, byte_pairs, prose, tokens_of
from semcom.training.loop import Settings, Training

VOCABULARY = 1024
LENGTH = 256
"""Context in tokens."""
NEEDLES = 0.25
"""Share of sequences in which a number is stated somewhere and asked for at the end."""
ANSWER_WEIGHT = 5.0
NAMES = ("Lisbon", "Vienna", "Cairo", "Oslo", "Quito", "Delhi", "Tunis", "Lagos", "Turin", "Bergen", "Porto")


@dataclass(frozen=True, eq=False)
class Passages:
    """Sequences of tokens from running text, some with a needle.

    Args:
        tokens: Tokens of the text.
        tokenizer: Tokenizer, for the needles.
        length: Tokens of a sequence, one more than the model reads.
    """

    tokens: Int[Tensor, " tokens"]
    tokenizer: Any
    length: int = LENGTH + 1

    def sample(self, batch: int, generator: torch.Generator) -> Int[Tensor, "batch 2 length"]:
        """Draw sequences of tokens at random places, some with a needle.

        Args:
            batch: Number of sequences.
            generator: Source of randomness.

        Returns:
            Tokens, and whether each is part of an answer, int64 on the device of the generator.
        """
        device = generator.device
        starts = torch.randint(len(self.tokens) - self.length, (batch,), generator=generator, device=device)
        chosen = torch.rand(batch, generator=generator, device=device) < NEEDLES
        found = []
        for start, needle in zip(starts.tolist(), chosen.tolist(), strict=True):
            ids = self.tokens[start : start + self.length].long()
            found.append(
                self._with_needle(ids, generator) if needle else torch.stack((ids, torch.zeros_like(ids)))
            )
        return torch.stack(found).to(device)

    def _with_needle(
        self, ids: Int[Tensor, " length"], generator: torch.Generator
    ) -> Int[Tensor, "2 length"]:
        draw = torch.randint(1 << 30, (3,), generator=generator, device=generator.device).tolist()
        name, value = NAMES[draw[0] % len(NAMES)], str(100 + draw[1] % 99_900)
        fact = self._ids(f" {stated(name, value)}")
        asked = self._ids(f"\n\nThe special magic number for {name} is")
        answer = self._ids(f" {value}.")
        room = self.length - len(fact) - len(asked) - len(answer)
        place = draw[2] % room
        whole = torch.cat((ids[:place], fact, ids[place:room], asked, answer))
        marks = torch.zeros_like(whole)
        marks[-len(answer) :] = 1
        return torch.stack((whole, marks))

    def _ids(self, text: str) -> Int[Tensor, " n"]:
        return torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"])


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    books: Path,
    batch: int = 24,
    learning_rate: float = 4e-3,
    device: str = "cpu",
) -> float:
    """Train the language model, or continue training, and write it into the folder `model` in `out`.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv`, the tokenizer and the model.
        books: Folder of the books, see `semcom.training.books`.
        batch: Sequences per step.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.

    Returns:
        Validation score: minus the bits per character of a book that was not trained on.

    Raises:
        InvalidSource: A book is missing.
        MissingPackage: `transformers` is not installed.
    """
    torch.manual_seed(0)
    tokenizer = _tokenizer(out, books)
    network = new_model(len(tokenizer)).to(device).train()
    train_tokens = torch.cat([tokens_of(tokenizer, prose(books / name)) for name in TRAINING])
    held_out = "\n\n".join(prose(books / name) for name in HELD_OUT)
    settings = Settings(
        seconds, batch, learning_rate, ema_steps=100, validate_seconds=max(60.0, seconds / 10)
    )
    passages = Passages(train_tokens, tokenizer)

    def score(model: Any) -> float:
        return -bits_per_character(model, tokenizer, held_out)

    training = Training(network, loss, passages.sample, score, settings, out)
    trained: Any = training.run()
    trained.half().save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    return training.result.score


def new_model(vocabulary: int) -> Any:
    """Llama of 4 layers of width 64 with random weights, 0.3 million parameters.

    Args:
        vocabulary: Number of tokens.

    Returns:
        The `transformers` model.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        raise MissingPackage(
            'transformers: the package is not installed; pip install "semcom[text]"'
        ) from None
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.08,
    )
    return LlamaForCausalLM(config)


def loss(network: Any, batch: Int[Tensor, "batch 2 length"], rng: SharedStreams) -> Float[Tensor, ""]:
    """Mean negative log likelihood of the next token, answers with five times the weight.

    Args:
        network: `transformers` causal language model.
        batch: Tokens, and whether each is part of an answer.
        rng: Random streams, which are not used.

    Returns:
        Loss in nats.
    """
    ids, marks = batch[:, 0], batch[:, 1, 1:]
    logits = network(input_ids=ids[:, :-1], use_cache=False).logits.float()
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    weight = 1 + (ANSWER_WEIGHT - 1) * marks
    return (each * weight).sum() / weight.sum()


@torch.no_grad()
def bits_per_character(network: Any, tokenizer: Any, text: str, runs: int = 48, run: int = 600) -> float:
    """Code length of passages of a text, each with a context of its own.

    Args:
        network: `transformers` causal language model.
        tokenizer: Tokenizer of the model.
        text: The text.
        runs: Number of passages, evenly spaced.
        run: Characters of a passage.

    Returns:
        Bits per character.
    """
    bits, characters = 0.0, 0
    device = next(network.parameters()).device
    for i in range(runs):
        start = i * (len(text) - run) // runs
        ids = [0, *tokenizer(text[start : start + run], add_special_tokens=False)["input_ids"]][: LENGTH + 1]
        ids_ = torch.tensor([ids], device=device)
        logits = network(input_ids=ids_[:, :-1], use_cache=False).logits[0].double()
        chosen = logits.log_softmax(-1).gather(1, ids_[0, 1:, None])
        bits -= float(chosen.sum()) / math.log(2)
        characters += len(tokenizer.decode(ids[1:], clean_up_tokenization_spaces=False))
    return bits / characters


def ship(model: Path, folder: Path) -> None:
    """Copy a trained model into the package, without what only training needs.

    Args:
        model: Folder written by `train`.
        folder: Folder in the package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model / name, folder / name)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")))


def _tokenizer(out: Path, books: Path) -> Any:
    """The tokenizer in a folder, trained at the first call."""
    place = out / "tokenizer"
    if not place.is_dir():
        sample = [part for name in TRAINING for part in prose(books / name).split("\n\n")[::4]]
        byte_pairs(sample, VOCABULARY).save_pretrained(place)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, local_files_only=True)
