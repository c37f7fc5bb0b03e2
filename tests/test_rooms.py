"""The map holds: twelve rooms on eleven floors, every arrow runs down, no circle, and no torch in what a device runs."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from device_process import SLOW, WORKSTATION, run_python

import edgebert
from edgebert.core.former_names import FORMER

PACKAGE = Path(edgebert.__file__).parent
MAY_IMPORT = {
    "cli": ("compress", "devices", "stages", "measure", "bundle", "report", "runtimes", "models", "data", "tasks", "core"),
    "compress": ("stages", "measure", "bundle", "report", "runtimes", "models", "data", "tasks", "core"),
    "stages": ("measure", "bundle", "report", "runtimes", "models", "data", "tasks", "core"),
    "devices": ("measure", "bundle", "report", "runtimes", "models", "data", "tasks", "core"),
    "measure": ("bundle", "report", "runtimes", "models", "data", "tasks", "core"),
    "bundle": ("report", "runtimes", "models", "data", "tasks", "core"),
    "report": ("runtimes", "models", "data", "tasks", "core"),
    "runtimes": ("models", "tasks", "core"),
    "models": ("tasks", "core"),
    "data": ("tasks", "core"),
    "tasks": (),
    "core": (),
}
"""Room -> the rooms that it may import, lazily or for types alike; errors.py and version.py are for all."""
FACE = {"core.former_names", "version", "compress", "bundle.watching_predictor", *edgebert.PLACES.values()}
"""What `import edgebert` offers and nothing else imports it."""
TORCH = {
    *(f"models.{name}" for name in ("capture", "embeddings", "fake_quant", "pruned", "sentence_model", "surgery")),
    *(f"stages.distill.{name}" for name in ("learn", "losses", "teachers")),
    *(f"stages.prune.{name}" for name in ("budget", "cut", "importance", "reconstruct", "run", "size_search", "trim")),
    *(f"stages.quantize.{name}" for name in ("bias_correction", "equalize")),
    "stages.export.serving_form",
}
"""Modules that are torch from their first line on. All others import it where they use it."""
HEAVY = WORKSTATION | SLOW | {"onnxruntime", "openvino"}
"""Packages that take long to import, or that a device does not have."""
DEVICE = ("tasks", "core", "report", "measure", "bundle", "devices.agent", "cli.run", "cli.verify", "errors", "version")
"""What a device runs. `runtimes` has a file that runs torch, `models` and `data` serve the workstation as well."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its name below it; a package by the name of its folder, the face is `__init__`."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__") or "__init__"] = ast.parse(
            file.read_text(encoding="utf-8")
        )
    return found


def imports(tree: ast.AST, *, inside_functions: bool = True, for_types: bool = True) -> Iterator[str]:
    """Full names of what a module imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not inside_functions:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node, inside_functions=inside_functions, for_types=for_types)


def own_imports(module: str, *, inside_functions: bool = True, for_types: bool = True) -> set[str]:
    """Modules of the package that a module imports, by their names below it."""
    found = set()
    for name in imports(modules()[module], inside_functions=inside_functions, for_types=for_types):
        if name.split(".")[0] != "edgebert":
            continue
        inner = name.split(".")[1:]
        while inner and ".".join(inner) not in modules():
            inner = inner[:-1]
        found.add(".".join(inner) or "__init__")
    return found - {module}


def room_of(module: str) -> str:
    return module.split(".")[0]


def test_the_root_holds_twelve_rooms_and_five_files() -> None:
    there = {path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "recipes", "calibration")}
    assert there == {*MAY_IMPORT, "__init__.py", "__main__.py", "errors.py", "version.py", "py.typed"}
    assert len(MAY_IMPORT) == 12


def test_the_floors_are_eleven_at_most() -> None:
    floors = {"errors": 1, "version": 1}
    for room in graphlib.TopologicalSorter({room: set(below) for room, below in MAY_IMPORT.items()}).static_order():
        floors[room] = 1 + max(floors[below] for below in (*MAY_IMPORT[room], "errors"))
    assert max(floors.values()) + 1 <= 11  # the entry points stand on the highest room


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    inside = [module for module in modules() if room_of(module) == room]
    assert inside
    for module in inside:
        strange = {name for name in own_imports(module) if room_of(name) not in (room, *MAY_IMPORT[room], "errors", "version")}
        assert not strange, module


def test_the_loose_modules_import_what_they_are_for() -> None:
    assert own_imports("errors") == own_imports("version") == set()
    assert own_imports("__init__") == FACE
    assert own_imports("__main__") == {"cli.main"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graphlib.TopologicalSorter({module: own_imports(module) for module in modules()}).prepare()


def test_the_report_imports_no_task() -> None:
    for module in modules():
        if room_of(module) == "report":
            of_tasks = {name for name in own_imports(module) if room_of(name) == "tasks"}
            assert not {name for name in of_tasks if name != "tasks.reductions" and not name.startswith("tasks.metrics")}, (
                module
            )


def test_heavy_packages_are_imported_where_they_are_used_and_not_before() -> None:
    assert modules().keys() >= TORCH
    for module, tree in modules().items():
        top = {name.split(".")[0] for name in imports(tree, inside_functions=False, for_types=False)}
        allowed = {"torch", "transformers"} if module in TORCH else {"optimum"} if module == "cli.optimum_register" else set()
        assert not top & HEAVY - allowed, module
        if module not in TORCH:
            assert not own_imports(module, inside_functions=False, for_types=False) & TORCH, module


def test_what_a_device_runs_imports_no_torch_but_where_a_task_trains() -> None:
    for module in modules():
        if any(module == part or module.startswith(f"{part}.") for part in DEVICE):
            trains = room_of(module) == "tasks"  # losses and targets: torch inside functions that no device calls
            found = imports(modules()[module], inside_functions=not trains, for_types=not trains)
            assert not {name.split(".")[0] for name in found} & {"torch", "transformers"}, module
            assert not own_imports(module) & TORCH, module


LIGHT = (
    "bundle.predictor",
    "bundle.read",
    "cli.bench",
    "cli.ship",
    "compress.layout",
    "compress.recipe",
    "core.parallel_progress",
    "core.store",
    "devices.agent.agent",
    "devices.agent.install",
    "devices.agent.self_test",
    "devices.setup.setup",
    "devices.ship.rollout",
    "devices.ship.status",
    "devices.ship.text",
    "devices.targets",
    "devices.transport.ssh",
    "measure.bench.probe_worker",
    "measure.bench.run",
    "measure.doctor.examine",
    "measure.doctor.trial_worker",
    "measure.latency.worker",
    "measure.latency.timed",
    "models.families",
    "models.parts",
    "models.sizes",
    "models.vocabulary",
    "report.compare.comparison",
    "report.compare.junit",
    "report.file",
    "report.text.bench_table",
    "runtimes.serving",
    "stages",
    "stages.examples",
    "stages.prune.faults",
    "stages.scorer",
    "tasks",
)


def test_the_light_modules_import_nothing_heavy() -> None:
    script = f"""
import importlib, sys
for module in {LIGHT}:
    importlib.import_module(f"edgebert.{{module}}")
    if found := {HEAVY} & set(sys.modules):
        sys.exit(f"{{module}} imports {{found}}")
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_former_names_are_the_modules_of_today() -> None:
    script = f"""
import importlib
from edgebert.core.packages import quiet_libraries
with quiet_libraries():
    for former, present in {FORMER}.items():
        assert importlib.import_module(former) is importlib.import_module(present), former
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr


def test_what_a_module_held_that_is_a_room_now_is_imported_from_the_room() -> None:
    script = """
from edgebert.bundle import read_bundle, verify_bundle
from edgebert.data import prepare_data
from edgebert.models import load_model
from edgebert.report import Report
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr


def test_only_what_finds_models_and_data_reaches_devices_or_asks_sigstore_reaches_a_network() -> None:
    clients = {"huggingface_hub", "requests", "httpx", "urllib", "socket", "http", "asyncssh"}
    reaching = {module for module, tree in modules().items() if {name.split(".")[0] for name in imports(tree)} & clients}
    assert {module for module in reaching if room_of(module) != "devices"} <= {
        "models.source",
        "data.readers",
        "bundle.trust.sigstore",
    }


def test_nothing_in_the_package_unpickles_or_runs_text() -> None:
    risky = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}
    for module, tree in modules().items():
        assert not {name.split(".")[0] for name in imports(tree)} & risky, module
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not calls & {"eval", "exec", "os.system"}, module
        loads = [
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        ]
        assert not loads or (module == "models.unpickle" and all("weights_only=True" in load for load in loads)), module
