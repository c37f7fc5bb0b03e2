"""Saves OpenVINO graphs such that equal graphs are equal files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

COUNTED_NAME = re.compile(r"([A-Z][A-Za-z]*)_\d+")


def save_ir(model: Any, target: Path) -> None:
    """Writes an .xml and its .bin, FP32 kept.

    OpenVINO names the nodes that it adds by a counter of the process, so that a file would depend on what else the
    process did before: those get the number of their place instead.
    """
    import openvino as ov

    for place, node in enumerate(model.get_ordered_ops()):
        if counted := COUNTED_NAME.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{counted[1]}_{place}")
    ov.save_model(model, str(target), compress_to_fp16=False)
