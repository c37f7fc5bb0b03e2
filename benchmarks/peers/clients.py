"""The clients of others that open bundles: their environments, and how each is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.tools import HERE, QUIET, TORCH

LABELS_OF_JS = """
const asked = JSON.parse((await import("node:fs")).readFileSync(0, "utf8"));
const answers = [];
for (const text of asked) {
  const [answer] = await classify(text);
  answers.push([answer.label, answer.score]);
}
console.log("\\n" + JSON.stringify(answers));
process.exit(0);
"""
"""Stands behind code that defines `classify`."""


class Absent(Exception):
    """The environment of a client is not there, and cannot or shall not be made."""


@dataclass(frozen=True)
class Asked:
    """What a client answered: its version, and label and probability of each text."""

    version: str
    answers: list[tuple[str, float]]


@dataclass(frozen=True)
class Environment:
    """A folder with programs of other people, apart from edgebert's."""

    name: str
    requirements: tuple[str, ...]
    package: str
    """The package whose version is the client's."""
    without: tuple[str, ...] = ()
    """Packages that are taken out again."""

    def folder(self, peers: Path) -> Path:
        """Where it is."""
        return peers / self.name

    def make(self, peers: Path, *, quick: bool) -> None:
        """Makes it where it is missing.

        Raises:
            Absent: a quick run does not make it, or its programs cannot be had.
        """
        if (self.folder(peers) / "made").exists():
            return
        if quick:
            raise Absent("no environment")
        print(f"{self.name}: installing into {self.folder(peers)}", file=sys.stderr, flush=True)
        shutil.rmtree(self.folder(peers), ignore_errors=True)
        venv.create(self.folder(peers), with_pip=True)
        done = self._run(["bin/pip", "install", "--quiet", *self.requirements], peers)
        if done.returncode:
            sys.exit(f"{self.name}: {(done.stdout + done.stderr)[-3000:]}")
        if self.without:
            self._run(["bin/pip", "uninstall", "--quiet", "--yes", *self.without], peers)
        (self.folder(peers) / "made").touch()

    def _run(self, command: Sequence[str], peers: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        folder = self.folder(peers)
        program = folder / command[0] if "/" in command[0] else command[0]
        environment = {**os.environ, **variables}
        return subprocess.run(
            [str(program), *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    def command(self, peers: Path, code: str, work: Path) -> list[str]:
        """Command that runs code which defines `classify`, and asks it the texts of its standard input."""
        file = work / "pasted.py"
        file.write_text(code, encoding="utf-8")
        return [str(self.folder(peers) / "bin" / "python"), str(HERE / "ask_pasted.py"), str(file)]

    def version(self, peers: Path) -> str:
        """Version of its package."""
        script = f"from importlib.metadata import version; print(version({self.package!r}))"
        return self._run(["bin/python", "-c", script], peers).stdout.strip()


@dataclass(frozen=True)
class NodeEnvironment(Environment):
    """One of npm, which a quick run makes as well: it takes seconds."""

    def make(self, peers: Path, *, quick: bool) -> None:
        """Makes it where it is missing."""
        folder = self.folder(peers)
        if (folder / "made").exists():
            return
        if not shutil.which("npm"):
            raise Absent("npm is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        words = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *self.requirements]
        done = self._run(words, peers, ONNXRUNTIME_NODE_INSTALL="skip")
        if done.returncode and not quick:
            sys.exit(f"{self.name}: {(done.stdout + done.stderr)[-3000:]}")
        if done.returncode:
            raise Absent("npm reaches no registry")
        (folder / "made").touch()

    def command(self, peers: Path, code: str, work: Path) -> list[str]:
        """The code lies in the environment's folder, because that is where Node looks for packages from."""
        file = self.folder(peers) / "pasted.mjs"
        file.write_text(code + LABELS_OF_JS, encoding="utf-8")
        return ["node", str(file)]

    def version(self, peers: Path) -> str:
        """Version of its package."""
        file = self.folder(peers) / "node_modules" / self.package / "package.json"
        return str(json.loads(file.read_text(encoding="utf-8"))["version"])


@dataclass(frozen=True)
class OtherClient:
    """A client, and the code by which it opens a bundle: the card's, or what somebody writes who has not read it."""

    name: str
    environment: Environment
    title: str = ""
    """Its title in the card; empty for `own_code`."""
    own_code: str = ""
    file: str = ""
    """The file that `own_code` opens; empty for INT8 of ONNX Runtime."""

    def ask(self, peers: Path, bundle: Path, code: str, texts: Sequence[str], work: Path) -> Asked:
        """Its answers to texts, one by one, in a process of its own. Ends the benchmark when that fails."""
        done = subprocess.run(
            self.environment.command(peers, code, work),
            input=json.dumps(list(texts)),
            cwd=bundle,
            env={**os.environ, **QUIET},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{self.name} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        answers: list[Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return Asked(self.environment.version(peers), [(str(label), float(score)) for label, score in answers])


NODE = ("@huggingface/transformers@4.3.2", "onnxruntime-node@1.30.0")
ONNXRUNTIME_NODE = """
import fs from "node:fs";
import path from "node:path";
import { AutoTokenizer, env } from "@huggingface/transformers";
import ort from "onnxruntime-node";

const folder = process.cwd();
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const tokenizer = await AutoTokenizer.from_pretrained(path.basename(folder));
const manifest = JSON.parse(fs.readFileSync("edgebert.json", "utf8"));
const variant = manifest.variants.find((one) => one.role === "candidate" && one.target.runtime === "onnxruntime");
const off = variant.target.disabled_optimizers.join(";");
const extra = off ? { optimization: { disable_specified_optimizers: off } } : {};
const session = await ort.InferenceSession.create(variant.file, { intraOpNumThreads: 1, extra });

async function classify(text) {
  const encoded = await tokenizer(text, { truncation: true });
  const feeds = {};
  for (const name of session.inputNames) {
    feeds[name] = new ort.Tensor("int64", BigInt64Array.from(encoded[name].data, BigInt), encoded[name].dims);
  }
  const logits = Array.from((await session.run(feeds)).logits.data);
  const shares = logits.map((value) => Math.exp(value - Math.max(...logits)));
  const best = logits.indexOf(Math.max(...logits));
  return [{ label: manifest.labels[best], score: shares[best] / shares.reduce((sum, value) => sum + value) }];
}
"""
TRANSFORMERS_JS = """
import path from "node:path";
import { env, pipeline } from "@huggingface/transformers";
env.allowRemoteModels = false;
env.localModelPath = path.dirname(process.cwd());
const classify = await pipeline("text-classification", path.basename(process.cwd()));
"""
OPTIMUM_ONNX = """
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline
model = ORTModelForSequenceClassification.from_pretrained(".", subfolder="onnx", file_name="model.onnx")
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained("."), truncation=True)
"""
SENTENCE_TRANSFORMERS = """
from sentence_transformers import CrossEncoder
model = CrossEncoder(".", backend="onnx", local_files_only=True)
def classify(text):
    shares = model.predict(text, apply_softmax=True)
    return model.config.id2label[int(shares.argmax())], float(shares.max())
"""
OPTIMUM_INTEL = """
from optimum.intel import OVModelForSequenceClassification
from transformers import AutoTokenizer, pipeline
hint = {"INFERENCE_PRECISION_HINT": "f32"}
model = OVModelForSequenceClassification.from_pretrained(".", subfolder="openvino", ov_config=hint)
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained("."), truncation=True)
"""
FP32, IR = "onnx/model.onnx", "openvino/openvino_model.xml"
TRANSFORMERS = NodeEnvironment("clients-node", NODE, "@huggingface/transformers")
RUNTIME = NodeEnvironment("clients-node", NODE, "onnxruntime-node")
PINS = (TORCH, "sentence-transformers[onnx]==5.7.0", "optimum-onnx[onnxruntime]==0.1.0", "onnxruntime==1.32.0")
"""optimum-onnx needs Transformers below 4.58, and sentence-transformers brings it for its back end."""
OPTIMUM = Environment("clients-onnx", (*PINS, "transformers==4.57.6"), "optimum-onnx")
SENTENCE = Environment("clients-onnx", (*PINS, "transformers==4.57.6"), "sentence-transformers")
# It requires torchvision, which texts do not need, and whose wheels do not load beside a CPU build of torch.
INTEL = Environment("clients-openvino", (TORCH, "optimum-intel[openvino]==2.2.0"), "optimum-intel", without=("torchvision",))
CLIENTS = (
    OtherClient("Transformers.js, as the card says", TRANSFORMERS, "Transformers.js"),
    OtherClient("Transformers.js, by itself", TRANSFORMERS, own_code=TRANSFORMERS_JS, file=FP32),
    OtherClient("onnxruntime-node", RUNTIME, own_code=ONNXRUNTIME_NODE),
    OtherClient("optimum-onnx, as the card says", OPTIMUM, "optimum-onnx"),
    OtherClient("optimum-onnx, by itself", OPTIMUM, own_code=OPTIMUM_ONNX, file=FP32),
    OtherClient("sentence-transformers, as the card says", SENTENCE, "sentence-transformers"),
    OtherClient("sentence-transformers, by itself", SENTENCE, own_code=SENTENCE_TRANSFORMERS, file=FP32),
    OtherClient("optimum-intel, as the card says", INTEL, "optimum-intel"),
    OtherClient("optimum-intel, by itself", INTEL, own_code=OPTIMUM_INTEL, file=IR),
)
