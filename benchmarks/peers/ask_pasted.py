"""Runs code that defines `classify`, and asks it each text of standard input. Runs in a client's environment.

python ask_pasted.py CODE_FILE, in the folder of a bundle. The last line of its output is JSON: [[label, probability], ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def answered(found: Any) -> tuple[str, float]:
    """Label and probability: as they are, or as a pipeline gives them."""
    if isinstance(found, list):
        (found,) = found
    return (found["label"], float(found["score"])) if isinstance(found, dict) else found


def main() -> None:
    """Asks one text at a time."""
    names: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[1], "exec"), names)
    answers = [answered(names["classify"](text)) for text in json.load(sys.stdin)]
    sys.stdout.write("\n" + json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
