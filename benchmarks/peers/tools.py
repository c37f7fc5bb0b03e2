"""The tools that edgebert is compared with: their environments, and the commands that make their INT8 files."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TORCH = "torch>=2.11,<2.14"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "CI": "1",  # Olive sends its heartbeat before it looks at its own switch; under CI it sends none
}


@dataclass(frozen=True)
class Tool:
    """A tool with an environment of its own, because its pins exclude edgebert's."""

    name: str
    requirements: tuple[str, ...]
    commands: tuple[str, ...]
    """Commands of its environment, split at spaces; {model} and {out} are folders, {here} is the folder of this file."""
    made: str
    """The INT8 file in {out}."""

    def environment(self, peers: Path) -> Path:
        """The folder of its programs."""
        return peers / self.name / "bin"

    def install(self, peers: Path) -> None:
        """Makes the environment where it is missing."""
        folder = peers / self.name
        if self.environment(peers).is_dir():
            return
        print(f"{self.name}: installing into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        run([str(self.environment(peers) / "pip"), "install", "--quiet", *self.requirements], self.name, offline=False)

    def make(self, peers: Path, model: Path, out: Path) -> Path:
        """Quantises the model. Returns the INT8 file."""
        out.mkdir()
        for command in self.commands:
            program, *arguments = command.split()
            filled = [argument.format(model=model, out=out, here=HERE) for argument in arguments]
            run([str(self.environment(peers) / program), *filled], self.name)
        return out / self.made


TOOLS = (
    Tool(
        "optimum",
        (TORCH, "optimum-onnx[onnxruntime]==0.1.0", "onnxruntime==1.32.0", "transformers==4.57.6"),
        (
            "optimum-cli export onnx --model {model} --task text-classification {out}/fp32",
            # After `--optimize O3` its quantisation ends with "Unable to find data type".
            "optimum-cli onnxruntime quantize --onnx_model {out}/fp32 --avx512_vnni --per_channel -o {out}/int8",
        ),
        "int8/model_quantized.onnx",
    ),
    Tool(
        "olive",
        # requests: it imports it without declaring it.
        (
            TORCH,
            "olive-ai==0.13.0",
            "onnxruntime==1.32.0",
            "onnxscript==0.7.2",
            "transformers==5.24.0",
            "optimum==2.3.0",
            "requests",
        ),
        ("python {here}/run_olive.py {model} {out}",),
        "model.onnx",
    ),
    Tool(
        "st",
        (TORCH, "sentence-transformers[onnx]==5.7.0", "onnxruntime==1.32.0", "transformers==4.57.6"),
        ("python {here}/run_sentence_transformers.py {model} {out}",),
        "onnx/model_qint8_avx512_vnni.onnx",
    ),
)


@dataclass(frozen=True)
class Raw:
    """The raw libraries, which are in edgebert's own environment."""

    model: Path
    train: Path
    samples: int
    max_length: int
    out: Path

    def run(self, library: str) -> None:
        """Quantises with a library; the files are in `out` afterwards."""
        self.out.mkdir(exist_ok=True)
        options = {"--model": self.model, "--train": self.train, "--out": self.out}
        numbers = {"--samples": self.samples, "--max-length": self.max_length}
        words = [str(word) for option in {**options, **numbers}.items() for word in option]
        run([sys.executable, str(HERE / "raw_libraries.py"), library, *words], library)


def run(command: list[str], name: str, *, offline: bool = True) -> None:
    """Runs a program to its end, and ends the benchmark when it fails: a comparison without a peer is none."""
    environment = {**os.environ, **(QUIET if offline else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {' '.join(command)} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
