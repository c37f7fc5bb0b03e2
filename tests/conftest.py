"""Fixtures of all tests: a tiny real BERT, small data files, a store, and the command line in this process."""

from __future__ import annotations

import os
import tempfile

# Before anything else: keys and receipts of this run of tests, never the user's. Workers inherit them from the process that
# starts them, because they read each other's bundles.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="edgebert-tests-config-")
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="edgebert-tests-cache-")
    os.environ["EDGEBERT_TEST_EXPORTS"] = tempfile.mkdtemp(prefix="edgebert-tests-exports-")  # exports_once.py
os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the Hub client
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: tiny models are no work to share

import csv
import json
import shutil
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import exports_once
import pytest
from hypothesis import settings
from made_once import made_once, run_folder

from edgebert.core.packages import quiet_libraries, switch_off_telemetry
from edgebert.core.store import ArtifactStore

if TYPE_CHECKING:
    from edgebert.compress.run import Run

pytest.register_assert_rewrite("breaks", "fake_stages", "stage_runs")  # their asserts say what differs, as tests' do
switch_off_telemetry()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and so would its children
settings.register_profile("edgebert", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("edgebert")
exports_once.install()

SENTENCES = Path(__file__).parent.parent / "calibration" / "sentences-en" / "sentences.txt"
REVIEWS = Path(__file__).parent.parent / "calibration" / "reviews-en"
WORDS = ("good", "bad", "fine", "awful", "film", "soup", "lamp", "app", "the", "a", "was", "is", "not", "very", "it", "and")


SLOW_FIXTURES = {"pruned", "two_widths", "hosts", "made_environment"}
"""Fixtures that take more than five seconds, or start SSH servers."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what uses slow fixtures, and orders files so that no worker waits for the other.

    Files with slow tests come before others, because at the end one worker would have the last of them. A file that uses
    `finished` comes first of all and the others late, because a worker waits while the other one makes it.
    """
    fixtures = {item: set(getattr(item, "fixturenames", ())) for item in items}
    for item in items:
        if SLOW_FIXTURES & fixtures[item]:
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    users = {item.path for item in items if "finished" in fixtures[item]}
    first = min(users, default=None)
    items.sort(key=lambda item: (item.path != first, item.path not in slow, item.path in users))


def pytest_unconfigure() -> None:
    """Drops the keys and receipts."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["XDG_CONFIG_HOME"], ignore_errors=True)
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)
        shutil.rmtree(os.environ["EDGEBERT_TEST_EXPORTS"], ignore_errors=True)


@pytest.fixture
def real_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every export of the test is made, although another test exported an equal model."""
    monkeypatch.delenv(exports_once.FOLDER, raising=False)


def make_tokenizer(folder: Path) -> int:
    """Writes a WordPiece tokenizer over letters and a few words. Returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    tokenizer.add_special_tokens(pieces[:5])  # as all tokenizers of Transformers have them
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {
        name: f"[{name.split('_')[0].upper()}]" for name in ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    }
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 64, "do_lower_case": True, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    return len(vocab)


def make_model(folder: Path, *, head: bool = True, labels: Sequence[str] = ("negative", "positive"), seed: int = 0) -> Path:
    """Saves a BERT of two layers, 32 wide, with random weights, in Transformers' form."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=make_tokenizer(folder),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        initializer_range=0.5,  # random weights of BERT's usual 0.02 answer the same to every text
    )
    with quiet_libraries():
        (BertForSequenceClassification(config) if head else BertModel(config)).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned tiny BERT; do not write into it."""
    return made_once(run_folder(tmp_path_factory) / "models" / "tiny", make_model)


@pytest.fixture(scope="session")
def encoder_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head; do not write into it."""
    return made_once(run_folder(tmp_path_factory) / "models" / "encoder", partial(make_model, head=False))


@pytest.fixture
def model_dir(model_template: Path, tmp_path: Path) -> Path:
    """A fine-tuned tiny BERT of the test's own."""
    return Path(shutil.copytree(model_template, tmp_path / "model"))


def write_table(path: Path, rows: Sequence[dict[str, Any]], *, delimiter: str = ",") -> Path:
    """Writes rows as a CSV or TSV file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def review_rows(count: int, *, split: str = "train") -> list[dict[str, str]]:
    """Rows of real labelled sentences, `text` and `label`."""
    lines = (REVIEWS / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1 : count + 1]
    return [dict(zip(("text", "label"), line.split("\t"), strict=False)) for line in lines]


def write_reviews(folder: Path) -> Path:
    """Writes train.csv (48 rows) and eval.csv (24 rows)."""
    folder.mkdir()
    write_table(folder / "train.csv", review_rows(48))
    write_table(folder / "eval.csv", review_rows(24, split="eval"))
    return folder


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder with train.csv (48 rows) and eval.csv (24 rows)."""
    return write_reviews(tmp_path / "data")


RECIPE = """\
model: ./model
task: {name: text-classification, max_length: 32}
data:
  train: data/train.csv
  eval: data/eval.csv
  calibration: {path: data/train.csv, samples: 8}
stages:
  - export
  - quantize: {method: [dynamic]}
targets:
  - {runtime: onnxruntime, threads: 1}
gates:
  - {metric: accuracy, min: 0.0}
measure: {rounds: 1, queries: 4, warmup: 1, golden_inputs: 2}
seed: 0
"""


@pytest.fixture
def recipe(tmp_path: Path, model_dir: Path, data_dir: Path) -> Path:
    """A recipe that runs in seconds: recipe.yaml beside model/ and data/."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


FINISHED = (
    "stages.quantize.method=[dynamic, static, nncf]",
    "targets=[{runtime: onnxruntime}, {runtime: openvino}]",
    "measure={rounds: 1, queries: 16, warmup: 1, golden_inputs: 3}",
)
"""Overrides of RECIPE with which `finished` was run."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """A folder with recipe.yaml, model/, data/, store/ and runs/recipe/, a run of compress with a method of each kind
    on both runtimes. Do not write into it."""

    def make(folder: Path) -> None:
        compress_recipe(write_recipe(folder, model_template), *FINISHED)

    return made_once(run_folder(tmp_path_factory) / "finished", make)


def write_recipe(folder: Path, model: Path) -> Path:
    """Writes recipe.yaml, and beside it a copy of the model and data/. Returns the folder."""
    shutil.copytree(model, folder / "model")
    write_reviews(folder / "data")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def compress_recipe(folder: Path, *overrides: str) -> None:
    """Runs recipe.yaml into runs/recipe/, with the store store/."""
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.run import compress
    from edgebert.core.progress import Silent

    file = load_recipe(str(folder / "recipe.yaml"), overrides)
    compress(file, store=ArtifactStore(folder / "store"), out=folder / "runs" / "recipe", progress=Silent())


@pytest.fixture(scope="session")
def pruned(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Run:
    """A run of compress that cuts the model twice and quantises it: layer 0 keeps heads 0 and 2 and 16 of its 64 FFN
    neurons, layer 1 is whole at first and removed by the second cut. Do not write into its folder."""
    from fake_stages import Cut, compressed

    from edgebert.compress.run import Run
    from edgebert.report.file import read_report
    from edgebert.report.verdict import judge
    from edgebert.stages.export import Export
    from edgebert.stages.quantize import Quantize

    def make(folder: Path) -> None:
        first, second = Cut(kept=((0, (0, 2), 16), (1, (0, 1, 2, 3), 64))), Cut(kept=((0, (0, 1), 16),))
        compressed(write_recipe(folder, model_template), first, second, Export(), Quantize())

    run = made_once(run_folder(tmp_path_factory) / "pruned", make) / "runs" / "recipe"
    report = read_report(run / "report.json").model_copy(update={"sha256": None})
    return Run(judge(report), report, run, run / "bundle")


@pytest.fixture
def bundle(finished: Path, tmp_path: Path) -> Path:
    """A finished bundle of the test's own: two FP32 graphs and three INT8 ones."""
    return Path(shutil.copytree(finished / "runs" / "recipe" / "bundle", tmp_path / "bundle"))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """An empty store."""
    found = ArtifactStore(tmp_path / "store")
    found.prepare()
    return found


class Result:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs the command line in this process, in tmp_path, with a store there: cli("compress", "recipe.yaml")."""
    import sys

    from edgebert.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEBERT_HOME", str(tmp_path / "store"))

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["edgebert", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run
