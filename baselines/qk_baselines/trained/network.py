"""What the networks of the trained baselines share: the pretrained parts, blocks made to fit, and their files."""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from qk_model import vae
from qk_model.config import ModelConfig, Part, fill, to_json
from qk_model.infer import Job
from qk_model.kontext import Connector, KontextTokens
from qk_model.mmdit import LeanMMDiT
from qk_model.model import QueryKontext
from qk_model.reader import AnswerReader
from qk_model.tokenizer import load_tokenizer
from qk_model.trunk import Batch, Trunk
from qk_model.vlm import make_vlm
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qk_baselines.trained.config import OWN, NetworkConfig, Size
from qk_bench.errors import UsageError
from qk_bench.interfaces import Failure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WEIGHTS = "weights.safetensors"
Output = NDArray[np.uint8] | Failure


class Network(Trunk):
    """A baseline on Query-Kontext's pretraining: VLM, kontext queries, connector and autoencoder, and parts of its own.

    Attributes:
        name: As `--model` has it.
        shared: Names of the parts taken over from the pretraining.
        own_parts: Names of the parts of its own, in the order of use.
        for_training: Those of them that a trained model does without.
    """

    name: ClassVar[str]
    shared: ClassVar[tuple[str, ...]] = ("vlm", "tokens", "connector", "vae")
    own_parts: ClassVar[tuple[str, ...]]
    for_training: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, shared: ModelConfig, own: dict[str, Any], tokenizer: PreTrainedTokenizerFast | None = None
    ) -> None:
        super().__init__()
        self.config, self.own = shared, own
        self.tokenizer = tokenizer or load_tokenizer(shared.tokenizer)
        self.vlm = make_vlm(_bare(shared.vlm))
        self.vae = vae.make_vae(_bare(shared.vae))
        self.latent_channels, self.factor = vae.shape(self.vae)
        area = shared.low_level.patch**2
        self.channels = self.latent_channels * area
        self.channels_out = self.channels + shared.low_level.residual * area  # of a denoiser that sees the source
        self.tokens = KontextTokens(shared, self.vlm.width)
        self.connector = Connector(self.vlm.width, shared.kontext.connector_hidden, shared.kontext.context_dim)

    def adopt(self, pretrained: QueryKontext) -> None:
        """Take over the weights of the shared parts.

        Raises:
            UsageError: The pretraining was of an ablation that lacks one.
        """
        for name in self.shared:
            part = getattr(pretrained, name)
            if part is None:
                raise UsageError(f"{self.name}: the pretraining has no {name}", f"one with model.{name}.enabled=true")
            getattr(self, name).load_state_dict(part.state_dict())

    @abstractmethod
    def losses(self, batch: Batch, stage: str, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of a batch in a stage; `loss` is what to minimise. All chance comes from the generator."""

    @abstractmethod
    def make(self, jobs: Sequence[Job], *, steps: int | None = None) -> list[Output]:
        """An image for each job, or at which of the model's own stages it failed.

        Args:
            jobs: Of one size, all with a source or all without.
            steps: Of each flow, instead of the config's number.
        """

    def forward(self, batch: Batch, stage: str, seed: int) -> dict[str, Tensor]:
        """The losses of a batch; all chance comes from the seed."""
        return self.losses(batch, stage, torch.Generator().manual_seed(seed))

    def parts(self) -> dict[str, nn.Module]:
        """The parts by name."""
        return {name: getattr(self, name) for name in (*self.shared, *self.own_parts)}

    # ---- parts ----

    def denoiser(self, size: Size, channels: int, context_dim: int, out_channels: int) -> LeanMMDiT:
        """A diffusion transformer from tokens of so many channels to tokens of so many."""
        return LeanMMDiT(channels, context_dim, size.width, size.depth, size.num_heads, out_channels)

    def reader_of(self, width: int, length: int) -> AnswerReader:
        """A reader that writes up to `length` words."""
        return AnswerReader(len(self.tokenizer), width, length=length)

    def write(self, reader: AnswerReader, query: Tensor, mask: Tensor) -> list[str | None]:
        """What a reader writes; None where it comes to no end."""
        begin, end = (self.tokenizer.convert_tokens_to_ids(token) for token in ("[BOS]", "[EOS]"))
        texts: list[str | None] = []
        for row in reader.write(query, mask, begin, end).tolist():
            texts.append(self.tokenizer.decode(row[: row.index(end)]) if end in row else None)
        return texts

    # ---- files ----

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Save as a folder: config.json, the weights in one file, and the tokenizer.

        Args:
            folder: Where to; made if it is not there.
            dtype: Cast the weights first (the model itself is cast), and leave out what only training uses.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dropped: tuple[str, ...] = ()
        if dtype is not None:
            self.to(dtype)
            dropped = tuple(f"{name}." for name in self.for_training)
        weights = {k: v.contiguous() for k, v in self.state_dict().items() if not k.startswith(dropped)}
        save_file(weights, folder / WEIGHTS)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        config = to_json(NetworkConfig(self.name, self.config, self.own))
        (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """Load a folder that `save_pretrained` wrote.

        Raises:
            UsageError: It is not such a folder, holds another model, or is damaged.
        """
        folder = Path(folder)
        try:
            config = fill(NetworkConfig, json.loads((folder / "config.json").read_text("utf-8")), "config.json")
            if config.model != cls.name:
                raise UsageError(f"{folder} holds the model {config.model}, not {cls.name}")
            from transformers import PreTrainedTokenizerFast

            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
            model = cls(config.shared, config.own, tokenizer)
            weights = load_file(folder / WEIGHTS)
            absent = set(model.load_state_dict(weights, strict=False).missing_keys)
            absent -= {key for key in absent if key.startswith(tuple(f"{name}." for name in cls.for_training))}
            if absent or not set(weights) <= set(model.state_dict()):
                raise ValueError(f"{WEIGHTS} does not fit config.json")
        except UsageError:
            raise
        except Exception as error:  # the libraries raise OSError, ValueError, SafetensorError, …
            why = " ".join(str(error).split())[:160]
            raise UsageError(
                f"{folder} is not a folder with a {cls.name} model: {why}",
                f"name the `model` folder that `qkbench train {cls.name}` wrote",
            ) from None
        return model.to(dtype).eval()


class Words(nn.Module):
    """Word embeddings with places: the text input of a diffusion transformer that has no VLM before it."""

    def __init__(self, vocab_size: int, width: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, width)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids to (B, T, E)."""
        return self.words(ids) + self.places[: ids.shape[1]]  # type: ignore[no-any-return]


def own_config(name: str, own: dict[str, Any]) -> Any:
    """The dataclass of a model's own values."""
    return fill(OWN[name], own, f"{name}.model")


def _bare(part: Part) -> Part:
    return dataclasses.replace(part, pretrained="")
