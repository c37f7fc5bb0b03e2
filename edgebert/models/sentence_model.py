"""SentenceModel: an encoder with the pooling, Dense layers and normalisation that make one vector of a text."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional

from edgebert.models.families import family_of_config
from edgebert.models.parts import family_of
from edgebert.models.sentence_files import dense_config, write_modules
from edgebert.models.sentence_folder import ACTIVATIONS, DenseLayer, is_sentence_folder, read_sentence_folder
from edgebert.tasks.base import Task
from edgebert.tasks.embedding import TOKENS, VECTOR, Embedding


class Dense(nn.Module):
    """A matrix and an activation, of shape (batch, inputs) -> (batch, outputs)."""

    def __init__(self, layer: DenseLayer) -> None:
        super().__init__()
        self.layer = layer
        self.linear = nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
        self.activation = getattr(nn, ACTIVATIONS[layer.activation])()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.activation(self.linear(vectors))
        return made


class SentenceModel(nn.Module):
    """Returns the hidden states of all tokens, and the vector of each text. Its encoder has the name of its family's prefix, as
    in a model with a head."""

    def __init__(self, encoder: Any, pooling: str, dense: Sequence[Dense], *, normalize: bool) -> None:
        super().__init__()
        self.prefix, self.pooling, self.normalize = family_of(encoder).prefix, pooling, normalize
        self._config = encoder.config
        setattr(self, self.prefix, encoder)
        self.dense = nn.ModuleList(dense)

    @property
    def encoder(self) -> Any:
        """The encoder, or what stands in its place."""
        return getattr(self, self.prefix)

    @property
    def config(self) -> Any:
        """The encoder's config."""
        return self._config

    @property
    def dtype(self) -> torch.dtype:
        """The encoder's."""
        dtype: torch.dtype = self.encoder.dtype
        return dtype

    def get_input_embeddings(self) -> Any:
        """The encoder's table of tokens."""
        return self.encoder.get_input_embeddings()

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.encoder(**inputs).last_hidden_state
        vectors = pooled(hidden, inputs["attention_mask"], self.pooling)
        for layer in self.dense:
            vectors = layer(vectors)
        return {TOKENS: hidden, VECTOR: functional.normalize(vectors, dim=-1) if self.normalize else vectors}

    def around(self, encoder: Any) -> SentenceModel:
        """The same pooling around another encoder of the family."""
        return SentenceModel(encoder, self.pooling, [*copy.deepcopy(self.dense)], normalize=self.normalize).eval()

    def save_pretrained(self, folder: Path) -> None:
        """Writes the encoder, and around it the files of a sentence-transformers folder."""
        from safetensors.torch import save_file

        self.encoder.save_pretrained(folder)
        dense: list[Any] = list(self.dense)
        layers: list[DenseLayer] = [module.layer for module in dense]
        width = layers[0].inputs if layers else _width(self.config.to_dict())
        write_modules(folder, self.pooling, layers, width=width, normalize=self.normalize)
        for module, layer in zip(dense, layers, strict=True):
            (folder / layer.folder).mkdir(exist_ok=True)
            (folder / layer.folder / "config.json").write_text(json.dumps(dense_config(layer), indent=2) + "\n")
            tensors = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
            save_file(tensors, folder / layer.folder / "model.safetensors", {"format": "pt"})


def _width(config: Mapping[str, Any]) -> int:
    return int(family_of_config(config).with_sizes(config)["hidden_size"])


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector of each text, as sentence-transformers pools.

    Args:
        hidden: shape (batch, length, width).
        mask: 1 for a token and 0 for padding, which is on the right, shape (batch, length).
        pooling: a name of `edgebert.tasks.embedding_options.Pooling`.
    """
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.to(hidden.dtype)[:, :, None]
    if pooling == "max":
        return (hidden + (weights - 1.0) * 1e9).amax(dim=1)
    places = torch.cumsum(weights, dim=1)  # 1, 2, ... of the tokens; padding has the last one's
    if pooling == "lasttoken":
        last = weights * (places == places[:, -1:]).to(hidden.dtype)
        return (hidden * last).sum(dim=1)
    weights = weights * places if pooling == "weightedmean" else weights
    total = weights.sum(dim=1).clamp(min=1e-9)
    return (hidden * weights).sum(dim=1) / (total.sqrt() if pooling == "mean_sqrt_len_tokens" else total)


def pooled_model(encoder: Any, folder: Path, task: Task) -> SentenceModel:
    """The model of a task without a head: pooled as its folder says, or where it says nothing, as the task does.

    Raises:
        SourceError: the folder's modules cannot be used.
    """
    assert isinstance(task, Embedding)
    if not is_sentence_folder(folder):
        return SentenceModel(encoder, task.options.pooling or "mean", (), normalize=task.options.normalize is not False)
    said = read_sentence_folder(folder)
    dense = [_opened(folder, layer) for layer in said.dense]
    return SentenceModel(encoder, said.pooling, dense, normalize=said.normalize)


def _opened(folder: Path, layer: DenseLayer) -> Dense:
    from safetensors.torch import load_file

    made = Dense(layer)
    made.load_state_dict(load_file(folder / layer.folder / "model.safetensors"), strict=True)
    return made.float()


def without_pooler(config: Any) -> Mapping[str, Any]:
    """The argument that leaves the pooler out of an encoder of this config; none where its family has no pooler."""
    family = family_of_config(config.to_dict())
    made = getattr(transformers, f"{family.class_name}Model").__init__
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(made).parameters else {}
