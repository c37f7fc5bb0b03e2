"""Self-test: a variant answers the bundle's goldens in a process of its own, so that a crash does not end the agent.

`python -m edgebert.devices.agent.self_test PARENT` is that process: it reads the folder and the variant's name from
standard input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

from edgebert.bundle.manifest import ManifestEntry
from edgebert.core.interrupts import end_with
from edgebert.errors import EdgebertError, StageError
from edgebert.measure.latency.process import run_worker

State = Literal["ok", "differs", "untested"]


def self_test(folder: Path, variant: ManifestEntry) -> tuple[State, str]:
    """Whether a variant of a checked bundle answers here as on the machine that made it, and the reason in words."""
    job = json.dumps({"folder": str(folder), "variant": variant.name})
    try:
        result = json.loads(run_worker(sys.modules[__name__], job, f"replays the goldens of {variant.name}"))
    except StageError as error:
        return "untested", error.message
    return result["state"], result["result"]


def main() -> int:
    """Replays the goldens of one variant. Returns the exit code."""
    end_with(int(sys.argv[1]))
    job = json.loads(sys.stdin.read())
    from edgebert.bundle.read import open_bundle_folder
    from edgebert.bundle.self_test import golden_inputs, replay

    try:
        with open_bundle_folder(Path(job["folder"])) as bundle:
            variant = next(item for item in bundle.manifest.variants if item.name == job["variant"])
            test = replay(bundle, variant, golden_inputs(bundle.serving, bundle.open_tokenizer(), bundle.manifest))
    except EdgebertError as error:
        sys.stdout.write("\n" + json.dumps({"failure": error.message, "hint": error.hint}) + "\n")
        return error.exit_code
    sys.stdout.write("\n" + json.dumps({"state": test.state, "result": test.result}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
