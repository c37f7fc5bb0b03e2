"""What a model folder is, read from its headers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgebert.errors import SourceError
from edgebert.models.weight_files import count_parameters


def test_parameters_are_counted_without_buffers_of_whole_numbers(tmp_path: Path) -> None:
    tensors = {"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float16), "position_ids": np.arange(64).reshape(1, 64)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert count_parameters(tmp_path) == 3 * 5 + 7


def test_parameters_of_all_shards_are_counted(tmp_path: Path) -> None:
    for shard, size in (("one", 3), ("two", 4)):
        save_file({shard: np.zeros((size, 2), np.float32)}, tmp_path / f"{shard}.safetensors")
    files = {"one": "one.safetensors", "two": "two.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert count_parameters(tmp_path) == 14


def test_parameters_of_a_file_that_was_cut_short_are_not_guessed(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 5), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-4])
    with pytest.raises(SourceError, match="not a whole safetensors file"):
        count_parameters(tmp_path)
