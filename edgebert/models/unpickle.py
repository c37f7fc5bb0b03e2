"""A process of its own that turns PyTorch's pickles into one safetensors file; `edgebert.models.convert` starts it.

`torch.load(weights_only=True)` builds tensors and containers alone, and runs nothing that a file names. Beside that, the
process may take no more memory, time and disk space than the files' size allows for, so that a file that lies takes nobody's.

Its standard input is a JSON object: `files`, `out`, `bytes` (of all files) and `seconds`. Its last line of output is one as
well: `tensors`, or `failure`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgebert.models.tensors import FORMER

SPARE = 2 << 30
"""Bytes of memory beside the tensors: their pickles, and what torch takes for itself."""


class Unusable(Exception):
    """A file holds something else than tensors by name."""


def main() -> None:
    """Reads the job, does it, and says how it ended."""
    job = json.loads(sys.stdin.read())
    import torch

    _limit(job["bytes"], job["seconds"])
    try:
        tensors = _tensors(torch, [Path(file) for file in job["files"]], job["bytes"])
        _save(tensors, job["out"])
    except Unusable as error:
        _say({"failure": str(error)})
    except Exception as error:
        _say({"failure": _why(error)})
    else:
        _say({"tensors": len(tensors)})


def _say(result: Mapping[str, Any]) -> None:
    """The last line of output."""
    sys.stdout.write(json.dumps(result) + "\n")
    if "failure" in result:
        sys.exit(1)


def _limit(size: int, seconds: int) -> None:
    """Bounds what this process may take; on systems without such limits the parent's time limit is left."""
    try:
        import resource
    except ImportError:
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").is_file() else 0
    wanted = {
        resource.RLIMIT_AS: pages * resource.getpagesize() + 4 * size + SPARE,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: 2 * size + (1 << 20),
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in wanted.items():
        most = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _tensors(torch: Any, files: list[Path], size: int) -> dict[str, Any]:
    """Every tensor by its name of today. Tied ones, which share their values, become two."""
    found: dict[str, Any] = {}
    for file in files:
        for name, value in _of_file(torch, file):
            if value.numel() * value.element_size() > size:
                raise Unusable(f"{name[:80]} in {file.name} claims to be larger than its file")
            for former, today in FORMER.items():
                name = name.replace(former, today)
            if name in found:
                raise Unusable(f"{name[:80]} is there twice")
            found[name] = value.detach().clone(memory_format=torch.contiguous_format)
    return found


def _of_file(torch: Any, file: Path) -> Iterator[tuple[str, Any]]:
    content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping) or not content:
        raise Unusable(f"{file.name} holds a {type(content).__name__} and no tensors by name")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise Unusable(f"{file.name} holds {str(name)[:80]}, a {type(value).__name__}, beside or instead of tensors")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise Unusable(f"{name[:80]} in {file.name} is no plain tensor")
        yield name, value


def _save(tensors: Mapping[str, Any], out: str) -> None:
    from safetensors.torch import save_file

    save_file(dict(tensors), out, metadata={"format": "pt"})


def _why(error: Exception) -> str:
    """What went wrong, in one line. torch's own advice is to load the file in the way that runs its code: it is left out."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or ["no reason"]
    named = next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), lines[0])
    return f"{type(error).__name__}: {named.partition('WeightsUnpickler error: ')[2].strip() or named.strip()}"[:240]


if __name__ == "__main__":
    main()
