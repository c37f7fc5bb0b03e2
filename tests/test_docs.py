"""The documentation: its commands run, its recipe is valid, it knows every verb, metric and stage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_model, review_rows, write_table

from edgebert.compress.recipe_file import load_recipe
from edgebert.report.gates import METRICS
from edgebert.stages import STAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder as the README's reader has it: my-model, train.csv, dev.csv."""
    make_model(tmp_path / "my-model")
    write_table(tmp_path / "train.csv", review_rows(160))
    write_table(tmp_path / "dev.csv", review_rows(30, split="eval"))
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "EDGEBERT_HOME": str(folder / "store"),
        "HF_HUB_OFFLINE": "1",
    }


def test_readme_opens_with_one_install_command_and_one_test_command() -> None:
    first, second, *_ = blocks(README, "sh")
    assert first.strip().splitlines() == ['pip install ".[compress,demo]" && edgebert compress quickstart']
    assert second.strip().splitlines() == ['pip install ".[compress,demo,test]" && pytest']


def test_readme_commands_run_in_their_order(desk: Path) -> None:
    # A random model and thirty rows: `init`'s gates may fail, and what fails is not shipped. So they are such that hold.
    commands = [line for block in blocks(README, "sh")[2:] for line in block.splitlines() if line.strip()]
    assert len(commands) >= 12
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=desk, env=environment(desk), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        if command.startswith("edgebert init"):
            recipe = (desk / "mine.yaml").read_text()
            gates = re.compile(r"^gates:\n(?:  - .*\n)+", re.M)
            assert gates.search(recipe)
            (desk / "mine.yaml").write_text(gates.sub("gates:\n  - {metric: accuracy, min: 0}\n", recipe))
    assert (desk / "device" / "slots" / "b.json").is_file(), "the second bundle was switched to"
    assert (desk / "device" / "current").resolve().name == "a", "what was rolled back to serves"


def test_readme_recipe_is_valid(desk: Path) -> None:
    recipe, *_ = blocks(README, "yaml")
    (desk / "mine.yaml").write_text(recipe)
    assert load_recipe(str(desk / "mine.yaml")).recipe.task.name == "text-classification"


@pytest.mark.parametrize(("place", "names"), [(1, ["quantize"]), (2, ["prune", "distill", "quantize"])])
def test_readme_stages_are_valid(desk: Path, place: int, names: list[str]) -> None:
    recipe, *shorter = blocks(README, "yaml")
    before, _, after = recipe.partition("stages:\n")
    _, _, rest = after.partition("targets:\n")
    (desk / "shorter.yaml").write_text(f"{before}{shorter[place - 1]}targets:\n{rest}")
    found = load_recipe(str(desk / "shorter.yaml")).recipe.stages
    assert [stage.stage_name() for stage in found] == names


def test_readme_names_every_metric_stage_and_verb() -> None:
    from edgebert.cli.main import app

    verbs = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    for name in [*METRICS, *(stage.stage_name() for stage in STAGES), *(f"edgebert {verb}" for verb in verbs)]:
        assert name in README, f"the README does not mention {name}"


def test_readme_python_example_runs(desk: Path) -> None:
    (example,) = blocks(README, "python")
    overrides = "--set targets='[{runtime: onnxruntime}]' --set stages.quantize.method=dynamic"
    for command in (
        "edgebert init my-model --train train.csv --eval dev.csv --out mine.yaml",
        f"edgebert compress mine.yaml {overrides} || test $? = 1",
    ):
        subprocess.run(["bash", "-c", command], cwd=desk, env=environment(desk), check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=desk, env=environment(desk), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Answer(label=" in done.stdout


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_documents_link_only_to_files_that_exist(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipe_starts_with_the_command_that_runs_it(recipe: Path) -> None:
    first, second, *_ = recipe.read_text().splitlines()
    assert first == f"# edgebert compress {recipe.stem}"
    assert second == "# yaml-language-server: $schema=recipe.schema.json"
    load_recipe(recipe.stem)


def test_shipped_schema_is_the_one_that_edgebert_prints() -> None:
    from edgebert.compress.recipe import json_schema

    assert json.loads((ROOT / "recipes" / "recipe.schema.json").read_text()) == json_schema()
