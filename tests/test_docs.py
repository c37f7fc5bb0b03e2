"""The documentation: its commands run, its recipes are valid, its links lead somewhere, and it names all that users meet."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from ruamel.yaml import YAML
from test_rooms import MAY_IMPORT

from edgebert import errors
from edgebert.bundle.trust.config import TrustFile
from edgebert.cli.bench import SCENARIOS
from edgebert.cli.main import app
from edgebert.compress.layout import lay_out
from edgebert.compress.recipe import json_schema
from edgebert.compress.recipe_file import load_recipe
from edgebert.data.spec import DATA_FORMATS
from edgebert.devices.fleet import load_fleet
from edgebert.devices.ship.delivery import Outcome
from edgebert.measure.doctor.examine import CHECKS
from edgebert.report.compare.findings import FailOn, Verdict
from edgebert.report.gates import BOUNDS
from edgebert.stages import STAGES
from edgebert.stages.quantize import MethodName
from edgebert.stages.quantize.observers import Ranges
from edgebert.tasks import TASKS, get_task

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")))
DOCUMENTS = (*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
README = TEXTS["README.md"]

NOT_RUN = {
    'pip install ".[compress,demo]" && edgebert compress quickstart': "installs; tests/compress/test_quickstart.py runs it",
    'pip install ".[compress,demo,test]" && pytest': "these tests",
    "edgebert devices setup pi@kitchen": "a host; tests/devices/ship/test_ship_by_ssh.py has servers",
    "edgebert ship runs/mine/bundle pi@kitchen": "the same",
    'ssh pi@kitchen edgebert/venv/bin/edgebert run edgebert "The soup was cold."': "the same",
    "edgebert devices setup pi@kitchen --wheels wheels --offline": "the same",
    "pip wheel --no-deps -w wheels .": "builds from the project's folder; tests/devices/setup/test_wheels.py does",
    "pip download -d wheels --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_aarch64"
    " --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 wheels/edgebert-*.whl": "a package index",
}
"""Command -> what it needs that a test does not have."""
LIGHTER = {
    "edgebert bench": "--rounds 1 --queries 4 --warmup 1 --no-settle",
    "edgebert ship": "--rounds 1 --queries 4",
    "edgebert doctor": "--seconds 0.1",
}
"""Options that a test adds, as the last of two counts: with them a verb does the same work on fewer queries."""
ENDS_WITH = {"edgebert compare before.json after.json --fail-on slower --threshold 5% --junit compare.xml": 1}
"""Command -> its exit code, where that is not 0: one process a side shows nothing, and nothing shown is failed."""
LIGHT_RECIPE = """\
  calibration: {path: ./train.csv, samples: 8}
stages:
  - export
  - quantize: {method: dynamic}
targets:
  - {runtime: onnxruntime, threads: 1}
gates:
  - {metric: accuracy, min: 0}
measure: {rounds: 1, queries: 4, warmup: 1, golden_inputs: 3}
seed: 0
"""
"""What the test puts after the data of `init`'s recipe, whose search and rounds take minutes. The store of the session's
finished run has what it makes, but for latencies."""


def blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """(language, body) of the fenced blocks of some languages, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.M | re.S)
    return [(language, body) for language, body in found if language in languages]


def commands_of(text: str) -> list[str]:
    return [line for _, body in blocks(text, "sh") for line in body.splitlines() if line.strip()]


def spans(text: str) -> list[str]:
    """What stands in backticks within the prose."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


@dataclass(frozen=True)
class Desk:
    """A reader's folder: my-model, train.csv, dev.csv, and what README's commands made of them."""

    folder: Path
    store: Path

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        scripts = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "EDGEBERT_HOME": str(self.store),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def follow(self, page: str) -> None:
        """Runs a page's commands and Python examples, in their order."""
        for language, body in blocks(TEXTS[page], "sh", "python"):
            if language == "python":
                done = self.run([sys.executable, "-c", body])
                assert done.returncode == 0, f"{body}\n{done.stderr}"
            for command in body.splitlines() if language == "sh" else ():
                if command.strip() and command not in NOT_RUN:
                    self._follow_command(command)

    def _follow_command(self, command: str) -> None:
        more = next((options for verb, options in LIGHTER.items() if command.startswith(verb)), "")
        done = self.run(["bash", "-c", f"{command} {more}"])
        assert done.returncode == ENDS_WITH.get(command, 0), f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        if command.startswith("edgebert init"):
            self._lighten()

    def _lighten(self) -> None:
        written = self.folder / "mine.yaml"
        assert lay_out(load_recipe(str(written)).recipe, has_head=True)[1] == []
        start, _, _ = written.read_text().partition("stages:\n")
        written.write_text(re.sub(r"max_length: \d+", "max_length: 32", start) + LIGHT_RECIPE)


@pytest.fixture(scope="module")
def readers_desk(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The desk of one who followed README; every page begins with a copy, on the same store."""
    folder, store = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("docs-store") / "store"
    shutil.copytree(finished / "model", folder / "my-model")
    shutil.copyfile(finished / "data" / "train.csv", folder / "train.csv")
    shutil.copyfile(finished / "data" / "eval.csv", folder / "dev.csv")
    shutil.copytree(finished / "store", store)
    desk = Desk(folder, store)
    desk.follow("README.md")
    return desk


@pytest.fixture
def desk(readers_desk: Desk, tmp_path: Path) -> Desk:
    return Desk(Path(shutil.copytree(readers_desk.folder, tmp_path / "desk")), readers_desk.store)


def test_readme_opens_with_one_install_command_and_one_test_command() -> None:
    (_, first), (_, second), *_ = blocks(README, "sh")
    assert first.strip().splitlines() == ['pip install ".[compress,demo]" && edgebert compress quickstart']
    assert second.strip().splitlines() == ['pip install ".[compress,demo,test]" && pytest']


def test_readme_is_about_one_screen() -> None:
    assert len(README.splitlines()) <= 110


@pytest.mark.slow
def test_readme_commands_make_a_bundle(readers_desk: Desk) -> None:
    assert len(commands_of(README)) == 2 + 5
    assert (readers_desk.folder / "runs/mine/bundle/edgebert.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES[1:] if blocks(TEXTS[page], "sh", "python")])
def test_commands_and_python_of_a_page_run_in_their_order(page: str, desk: Desk) -> None:
    for number, fleet in enumerate(fleets(page)):  # the names and labels of the page, as folders of this machine
        devices = {name: {"address": f"./{name}-{number}", "labels": entry["labels"]} for name, entry in fleet.items()}
        (desk.folder / "fleet.yaml").write_text(json.dumps({"devices": devices}))
    desk.follow(page)


def test_what_is_not_run_and_what_ends_otherwise_stands_in_the_documentation() -> None:
    written = {command for page in PAGES for command in commands_of(TEXTS[page])}
    assert written >= {*NOT_RUN, *ENDS_WITH}


def parts(page: str) -> Iterator[dict[str, Any]]:
    for _, body in blocks(TEXTS[page], "yaml"):
        yield YAML(typ="safe").load(body)


def fleets(page: str) -> list[dict[str, Any]]:
    return [part["devices"] for part in parts(page) if "devices" in part]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(TEXTS[page], "yaml")])
def test_recipes_and_parts_of_recipes_are_valid(page: str, tmp_path: Path) -> None:
    whole = next(parts("README.md"))
    whole["gates"] = [gate for gate in whole["gates"] if gate["metric"] != "speedup"]  # parts of recipes may compress nothing
    for part in parts(page):
        if "devices" in part:
            continue
        task = part.get("task", whole["task"])
        metric = get_task(task if isinstance(task, str) else task["name"]).metrics[0].name
        gates = [{**gate, "metric": metric} for gate in whole["gates"]]
        (tmp_path / "recipe.yaml").write_text(json.dumps({**whole, "gates": gates, **part}))
        recipe = load_recipe(str(tmp_path / "recipe.yaml")).recipe
        assert lay_out(recipe, has_head=True)[1] == [], part


def test_fleets_are_valid(tmp_path: Path) -> None:
    texts = [body for page in PAGES for _, body in blocks(TEXTS[page], "yaml") if "devices" in YAML(typ="safe").load(body)]
    assert texts
    for text in texts:
        (tmp_path / "fleet.yaml").write_text(text)
        assert load_fleet(tmp_path / "fleet.yaml").devices


def test_trust_files_are_valid() -> None:
    (text,) = [body for page in PAGES for _, body in blocks(TEXTS[page], "toml")]
    assert TrustFile.model_validate(tomllib.loads(text)).unsigned == "load"


def test_reference_is_what_its_generator_writes() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    assert TEXTS["docs/recipe-reference.md"] == generator["page"](json_schema()), (
        "run: python docs/make_reference.py > docs/recipe-reference.md"
    )


def test_reference_has_every_field_of_a_recipe() -> None:
    schema = json_schema()
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"]:
            assert f"\n| `{field}` |" in TEXTS["docs/recipe-reference.md"]


def test_every_field_of_a_recipe_has_a_description() -> None:
    schema = json_schema()
    parts = {"recipe": schema, **schema["$defs"]}
    methods = {f"{name}.{part['then']['title']}": part["then"] for name in parts for part in parts[name].get("allOf", ())}
    fields = {(name, field): its for name, part in parts.items() for field, its in part["properties"].items()}
    own = {(name, field): its for name, part in methods.items() for field, its in part["properties"].items()}
    fields |= {place: its for place, its in own.items() if place[1] not in ("stage", "method")}  # which say what it is
    assert len(fields) > 100
    assert [place for place, its in fields.items() if not its.get("description")] == []


def literals(form: object) -> list[str]:
    return [str(value) for value in get_args(form)]


def families() -> list[str]:
    """Names of the error classes."""
    return [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.EdgebertError)]


def gated() -> list[str]:
    """Metrics that a recipe may set a gate on."""
    named, _the_users_own = json_schema()["$defs"]["Gate"]["properties"]["metric"]["anyOf"]
    return list(named["enum"])


KNOWN: Mapping[str, tuple[str, Sequence[str]]] = {
    "gate metrics": ("docs/compress.md", gated()),
    "bounds of gates": ("docs/compress.md", BOUNDS),
    "stages": ("docs/compress.md", [stage.stage_name() for stage in STAGES]),
    "tasks": ("docs/tasks.md", [task.name for task in TASKS]),
    "columns of tasks": ("docs/tasks.md", [column.name for task in TASKS for column in task.columns]),
    "data formats": ("docs/tasks.md", DATA_FORMATS),
    "quantisation methods": ("docs/quantise.md", literals(MethodName)),
    "ranges": ("docs/quantise.md", literals(Ranges)),
    "scenarios": ("docs/measure-and-compare.md", SCENARIOS),
    "verdicts of compare": ("docs/measure-and-compare.md", literals(Verdict)),
    "families of errors": ("docs/errors.md", families()),
}
"""What users meet -> the page whose backticks name each, and the names."""


@pytest.mark.parametrize("kind", KNOWN)
def test_a_page_names_each(kind: str) -> None:
    page, names = KNOWN[kind]
    said = set(spans(TEXTS[page]))
    assert names
    assert not [name for name in names if name not in said]


def test_ship_explains_every_outcome() -> None:
    rows = re.findall(r"^\| ([a-z, ]+) \| ", TEXTS["docs/ship.md"], flags=re.M)
    assert {outcome for row in rows for outcome in row.split(", ")} >= {*literals(Outcome)}


def test_measure_and_compare_names_what_a_check_can_fail_on() -> None:
    text = TEXTS["docs/measure-and-compare.md"]
    assert not [word for word in literals(FailOn) if f"`{word}`" not in text and f"--fail-on {word}" not in text]


def test_measure_and_compare_counts_the_checks_of_the_doctor() -> None:
    assert f" in {len(CHECKS)} checks " in TEXTS["docs/measure-and-compare.md"]


def verbs() -> Iterator[tuple[str, Any]]:
    """`keys trust` and its command, for every verb."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        yield from ((f"{name} {below}", its) for below, its in inner.items()) if inner else [(name, command)]


@pytest.mark.parametrize("verb", [name for name, _ in verbs()])
def test_every_verb_is_documented(verb: str) -> None:
    assert any(f"edgebert {verb}" in TEXTS[page] for page in PAGES[1:])


def test_options_that_pages_name_exist() -> None:
    known = {option for _, command in verbs() for parameter in command.params for option in parameter.opts} | {"--help"}
    named = {
        option
        for page in PAGES
        for span in spans(TEXTS[page])
        if span.startswith(("--", "edgebert "))
        for option in re.findall(r"--[a-z][a-z-]+", span)
    }
    assert len(named) > 20
    assert not named - known


def anchors(text: str) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_link_only_to_what_exists(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[document]):
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), target
        assert not anchor or anchor in anchors(place.read_text(encoding="utf-8")), target


def test_index_links_to_every_page() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXTS["docs/index.md"])
    assert {f"docs/{target}" for target in targets} >= {*PAGES[1:]} - {"docs/index.md"}


FOLDERS = ("edgebert/", "tests/", "benchmarks/", "recipes/", "calibration/", "docs/")


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_paths_in_backticks_exist(document: str) -> None:
    named = {word for span in spans(TEXTS[document]) for word in span.split() if word.startswith(FOLDERS)}
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_modules_in_backticks_exist(document: str) -> None:
    for name in re.findall(r"`(?:import )?(edgebert(?:\.[a-z_]+)+)`", TEXTS[document]):
        parent, _, last = name.rpartition(".")
        assert importlib.util.find_spec(parent), name
        module = importlib.import_module(parent)
        assert hasattr(module, last) or (hasattr(module, "__path__") and importlib.util.find_spec(name)), name


def test_contributing_names_what_stands_in_the_file() -> None:
    named = re.findall(r"`(\w+)` (?:of|in) `((?:edgebert|tests)/[\w/]+\.py)`", TEXTS["CONTRIBUTING.md"])
    assert len(named) > 15
    assert not [pair for pair in named if not re.search(rf"\b{pair[0]}\b", (ROOT / pair[1]).read_text(encoding="utf-8"))]


def test_contributing_maps_the_rooms_and_what_each_may_import() -> None:
    rows = re.findall(r"^\| \d+ \| `edgebert/(\w+)/` \| [^|]+ \| ([^|]+) \|$", TEXTS["CONTRIBUTING.md"], flags=re.M)
    assert {room: {*re.findall(r"\w+", below)} - {"nothing"} for room, below in rows} == {
        room: {*below} for room, below in MAY_IMPORT.items()
    }


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipe_starts_with_the_command_that_runs_it(recipe: Path) -> None:
    first, second, *_ = recipe.read_text().splitlines()
    assert first == f"# edgebert compress {recipe.stem}"
    assert second == "# yaml-language-server: $schema=recipe.schema.json"
    load_recipe(recipe.stem)


def test_shipped_schema_is_the_one_that_edgebert_prints() -> None:
    assert json.loads((ROOT / "recipes" / "recipe.schema.json").read_text()) == json_schema()
