"""Instruction sets: a target gets weights of the width that its CPU sums up rightly, and a device runs nothing else."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPE, Result, write_reviews

from edgebert import load
from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.read import open_bundle_folder, read_bundle
from edgebert.bundle.self_test import open_variant, verify_bundle
from edgebert.bundle.trust.sign import sign_bundle
from edgebert.compress.layout import Layout, lay_out
from edgebert.compress.recipe import Recipe, normalise
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.run import compress
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.errors import EnvironmentFault
from edgebert.runtimes import RUNTIMES, isa
from edgebert.runtimes.isa import EXACT, host_cpu, overflows, parse_cpuinfo, saturates, usable_isa
from edgebert.runtimes.target import Target

HASWELL = "fpu sse4_2 avx avx2 fma bmi2"
SKYLAKE_SERVER = f"{HASWELL} avx512f avx512dq avx512bw avx512vl"
CASCADE_LAKE = f"{SKYLAKE_SERVER} avx512_vnni"
SAPPHIRE_RAPIDS = f"{CASCADE_LAKE} avx_vnni amx_bf16 amx_tile amx_int8"
ALDER_LAKE = f"{HASWELL} avx_vnni"
CORTEX_A72 = "fp asimd evtstrm crc32 cpuid"
NEOVERSE_V1 = f"{CORTEX_A72} asimddp sve i8mm bf16"


def cpuinfo(*cores: str, word: str = "flags") -> str:
    """What Linux says of a CPU with these flags, core by core."""
    return "\n".join(f"processor\t: {index}\nmodel name\t: A CPU\n{word}\t\t: {core}\n" for index, core in enumerate(cores))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this machine one with other flags."""

    def become(flags: str) -> None:
        (tmp_path / "cpuinfo").write_text(cpuinfo(flags))
        monkeypatch.setattr(isa, "CPUINFO", tmp_path / "cpuinfo")

    return become


@pytest.mark.parametrize(
    ("flags", "word", "found"),
    [
        (HASWELL, "flags", {"avx2"}),
        (SKYLAKE_SERVER, "flags", {"avx2", "avx512"}),
        (CASCADE_LAKE, "flags", {"avx2", "avx512", "avx512_vnni"}),
        (SAPPHIRE_RAPIDS, "flags", {"avx2", "avx512", "avx512_vnni", "avx_vnni", "amx"}),
        (ALDER_LAKE, "flags", {"avx2", "avx_vnni"}),
        (CORTEX_A72, "Features", {"arm-neon"}),
        (NEOVERSE_V1, "Features", {"arm-neon", "arm-dotprod", "arm-i8mm"}),
        ("", "flags", set()),
    ],
)
def test_instruction_sets_are_read_from_the_flags(flags: str, word: str, found: set[str]) -> None:
    cpu = parse_cpuinfo(cpuinfo(flags, flags, word=word))
    assert (cpu.model, set(cpu.isas)) == ("A CPU", found)
    assert saturates(cpu.isas) == (flags in (HASWELL, SKYLAKE_SERVER, ""))


@pytest.mark.parametrize(
    ("flags", "amx", "found"),
    [
        (SAPPHIRE_RAPIDS, True, "amx"),
        (SAPPHIRE_RAPIDS, False, "avx512_vnni"),
        (CASCADE_LAKE, True, "avx512_vnni"),
        (ALDER_LAKE, False, "avx_vnni"),
        (HASWELL, False, "avx2"),
        (NEOVERSE_V1, False, "arm-i8mm"),
        ("", False, None),
    ],
)
def test_the_strongest_set_for_int8_is_amx_only_where_the_kernel_granted_it(flags: str, amx: bool, found: str | None) -> None:
    cpu = parse_cpuinfo(cpuinfo(flags, word="Features" if "asimd" in flags else "flags"))
    assert usable_isa(cpu, amx) == found


@pytest.mark.skipif(platform.system() != "Linux" or platform.machine() != "x86_64", reason="Linux on x86-64 grants AMX")
@pytest.mark.parametrize(("mask", "failed", "granted"), [(1 << 18, 0, True), (0b111, 0, False), (1 << 18, -1, False)])
def test_amx_is_granted_where_the_kernel_says_so(
    mask: int, failed: int, granted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kernel:
        def syscall(self, number: int, request: int, answer: Any) -> int:
            assert (number, request) == (158, 0x1022)
            answer._obj.value = mask
            return failed

    monkeypatch.setattr("ctypes.CDLL", lambda name: Kernel())
    assert isa.amx_granted() == granted


def test_only_what_every_core_has_counts() -> None:
    assert set(parse_cpuinfo(cpuinfo(NEOVERSE_V1, CORTEX_A72, word="Features")).isas) == {"arm-neon"}


@pytest.mark.parametrize(("machine", "overflowing"), [("x86_64", True), ("AMD64", True), ("arm64", False), ("aarch64", False)])
def test_cpu_whose_flags_cannot_be_read_is_trusted_only_where_none_of_its_kind_overflows(
    machine: str, overflowing: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(isa, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert saturates(host_cpu().isas) == overflowing


@pytest.mark.parametrize(
    ("flags", "name", "expected"),
    [
        (HASWELL, None, True),
        (CASCADE_LAKE, None, False),
        (CASCADE_LAKE, "avx2", True),
        (CASCADE_LAKE, "avx512", True),
        (CASCADE_LAKE, "avx_vnni", False),
        (CASCADE_LAKE, "arm-neon", False),
        (HASWELL, "avx512_vnni", True),  # it is measured here
    ],
)
def test_weights_overflow_by_the_target_or_by_the_machine_that_measures_it(
    flags: str, name: Any, expected: bool, host: Callable[[str], None]
) -> None:
    host(flags)
    assert overflows(Target(runtime="onnxruntime", isa=name)) == expected


BOTH = {"quantize": {"method": ["dynamic", "nncf"]}}
PLAIN: list[dict[str, Any]] = [{"runtime": "onnxruntime"}, {"runtime": "openvino"}]
OLD: list[dict[str, Any]] = [{**target, "isa": "avx2"} for target in PLAIN]


def laid_out(quantize: Any, targets: Sequence[dict[str, Any]]) -> Layout | list[str]:
    data = {"eval": "eval.csv", "train": "train.csv"}
    raw = {"model": "m", "task": "text-classification", "data": data, "stages": ["export", quantize], "targets": targets}
    layout, problems = lay_out(Recipe.model_validate(normalise(raw), strict=False), has_head=True)
    return layout or [f"{problem.path}: {problem.message}" for problem in problems]


def candidates(layout: Layout | list[str]) -> dict[str, list[str]]:
    assert isinstance(layout, Layout), layout
    return {name: [layout.steps[index].stage.label for index in indices] for name, indices in layout.candidates.items()}


def test_each_target_gets_weights_of_its_own_width(host: Callable[[str], None]) -> None:
    host(CASCADE_LAKE)
    wide = {"onnxruntime": ["int8-dynamic"], "openvino": ["int8-nncf"]}
    narrow = {"onnxruntime-avx2": ["int8-dynamic-7bit"], "openvino-avx2": ["int8-nncf-7bit"]}
    assert candidates(laid_out(BOTH, PLAIN)) == wide
    assert candidates(laid_out(BOTH, OLD)) == narrow
    assert candidates(laid_out(BOTH, PLAIN + OLD)) == {**wide, **narrow}


def test_no_target_gets_weights_of_8_bits_where_this_machine_would_sum_them_up_wrongly(host: Callable[[str], None]) -> None:
    host(SKYLAKE_SERVER)
    found = candidates(laid_out(BOTH, [*PLAIN, {"runtime": "onnxruntime", "isa": "avx512_vnni"}]))
    assert {label for labels in found.values() for label in labels} == {"int8-dynamic-7bit", "int8-nncf-7bit"}


def test_a_recipe_may_ask_for_7_bits_and_not_for_8_that_overflow(host: Callable[[str], None]) -> None:
    host(CASCADE_LAKE)
    narrow, wide = ({"quantize": {"method": "dynamic", "reduce_range": value}} for value in (True, False))
    targets = [PLAIN[0], OLD[0]]
    found = candidates(laid_out(narrow, targets))
    assert found == {"onnxruntime": ["int8-dynamic-7bit"], "onnxruntime-avx2": ["int8-dynamic-7bit"]}
    assert candidates(laid_out(wide, [PLAIN[0]])) == {"onnxruntime": ["int8-dynamic"]}
    (problem,) = laid_out(wide, targets)  # type: ignore[misc]
    assert problem.startswith("stages.1.quantize.reduce_range: `int8-dynamic` overflows on the target onnxruntime-avx2")


def test_weights_in_blocks_keep_their_activations_float_where_products_overflow(host: Callable[[str], None]) -> None:
    """ONNX Runtime's AVX2 kernel of 4-bit blocks with INT8 activations is wrong for one row (its issue 29853)."""
    host(CASCADE_LAKE)
    rounded, kept = ({"quantize": {"method": "weight-only", "accuracy_level": level}} for level in (4, 1))
    assert candidates(laid_out(rounded, [PLAIN[0]])) == {"onnxruntime": ["int8-weight-only"]}
    (problem,) = laid_out(rounded, [OLD[0]])  # type: ignore[misc]
    assert problem.startswith("stages.1.quantize.accuracy_level: `int8-weight-only` overflows on the target onnxruntime-avx2")
    assert candidates(laid_out(kept, [OLD[0]])) == {"onnxruntime-avx2": ["int8-weight-only-act32"]}


@pytest.fixture(scope="module")
def two_widths(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle for this machine and for AVX2, made where there are 8-bit dot products. Do not write into it."""
    folder = tmp_path_factory.mktemp("widths")
    shutil.copytree(model_template, folder / "model")
    write_reviews(folder / "data")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "cpuinfo").write_text(cpuinfo(CASCADE_LAKE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isa, "CPUINFO", folder / "cpuinfo")
        targets = "targets=[{runtime: onnxruntime}, {runtime: onnxruntime, isa: avx2}]"
        file = load_recipe(str(folder / "recipe.yaml"), [targets])
        yield compress(file, store=ArtifactStore(folder / "store"), out=folder / "run", progress=Silent()).bundle


WIDE, NARROW, FP32 = "onnxruntime/int8-dynamic", "onnxruntime-avx2/int8-dynamic-7bit", "onnxruntime/fp32"


def edited(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    sign_bundle(bundle)


def without(*names: str) -> Callable[[dict[str, Any]], object]:
    """Leaves variants out of a manifest."""
    return lambda manifest: manifest.update(variants=[v for v in manifest["variants"] if v["name"] not in names])


@pytest.fixture
def bundle(two_widths: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own that selects the weights of 8 bits."""
    copy = Path(shutil.copytree(two_widths, tmp_path / "bundle"))
    edited(copy, lambda manifest: manifest.update(selected=WIDE))
    return copy


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the graphs that a runtime was asked to open."""
    found: list[str] = []
    for runtime in RUNTIMES:
        original = type(runtime).open

        def spied(self: Any, model: Path, target: Target, held: Any = None, original: Any = original) -> Any:
            found.append(model.name)
            return original(self, model, target, held)

        monkeypatch.setattr(type(runtime), "open", spied)
    return found


def test_bundle_says_what_each_variant_requires(two_widths: Path) -> None:
    found = {variant.name: variant.requires_isa for variant in read_bundle(two_widths).variants}
    assert found == {FP32: (), WIDE: EXACT, "onnxruntime-avx2/fp32": (), NARROW: ()}
    card = (two_widths / "README.md").read_text(encoding="utf-8")
    rows = [line for line in card.splitlines() if line.startswith("| onnx/")]
    assert len([row for row in rows if "avx512_vnni" in row]) == 1
    assert len([row for row in rows if "any CPU" in row]) == 3
    assert "sums of 8-bit products overflow" in card


def test_selected_variant_answers_where_it_may(bundle: Path, host: Callable[[str], None]) -> None:
    for flags in (CASCADE_LAKE, ALDER_LAKE):
        host(flags)
        assert load(bundle).variant.name == WIDE


@pytest.mark.parametrize(("dropped", "instead"), [((), NARROW), ((NARROW,), FP32)], ids=["7 bits", "FP32"])
def test_run_takes_another_variant_and_says_why_where_the_selected_one_would_overflow(
    dropped: tuple[str, ...],
    instead: str,
    bundle: Path,
    cli: Callable[..., Result],
    host: Callable[[str], None],
    opened: list[str],
) -> None:
    edited(bundle, without(*dropped))
    host(SKYLAKE_SERVER)
    result = cli("run", bundle, "a good film")
    assert result.code == 0, result.err
    assert f"{WIDE} was selected, but this CPU has none of" in result.err and f"{instead} answers instead" in result.err
    assert opened == [Path(variant.file).name for variant in read_bundle(bundle).variants if variant.name == instead]


def test_run_never_takes_a_variant_that_failed_its_gates_instead(bundle: Path, host: Callable[[str], None]) -> None:
    edited(
        bundle,
        lambda manifest: [v.update(status="FAILED", reasons=["too slow"]) for v in manifest["variants"] if v["name"] == NARROW],
    )
    host(HASWELL)
    assert load(bundle).variant.name == FP32


def test_named_variant_is_refused_with_what_the_cpu_lacks_and_what_runs_instead(
    bundle: Path, cli: Callable[..., Result], host: Callable[[str], None], opened: list[str]
) -> None:
    host(HASWELL)
    result = cli("run", bundle, "a good film", "--variant", WIDE)
    assert result.code == 3
    assert f"{WIDE} cannot run here: this CPU has none of" in result.err and f"Use {NARROW}" in result.err
    variant = read_bundle(bundle).variant(WIDE)
    assert variant is not None
    with open_bundle_folder(bundle) as found, pytest.raises(EnvironmentFault, match="cannot run here"):
        open_variant(found, variant)
    assert opened == []


def test_verify_leaves_untested_what_would_overflow(
    bundle: Path, cli: Callable[..., Result], host: Callable[[str], None], opened: list[str]
) -> None:
    host(HASWELL)
    result = cli("verify", bundle)
    assert result.code == 0, result.err
    states = dict(line.split(":")[0].split()[::-1] for line in result.out.splitlines()[2:])
    assert states == {FP32: "ok", WIDE: "untested", "onnxruntime-avx2/fp32": "ok", NARROW: "ok"}
    assert "this CPU has none of" in next(line for line in result.out.splitlines() if line.startswith("untested"))
    assert len(opened) == 3


def test_verify_exits_3_when_nothing_can_run(bundle: Path, cli: Callable[..., Result], host: Callable[[str], None]) -> None:
    edited(bundle, without(FP32, "onnxruntime-avx2/fp32", NARROW))
    host(HASWELL)
    for verb in (("verify", bundle), ("run", bundle, "text")):
        result = cli(*verb)
        assert result.code == 3
        assert "No variant of the bundle can run on this CPU" in result.err and "isa: avx2" in result.err


def test_bundle_that_does_not_say_what_it_requires_has_weights_of_8_bits(bundle: Path, host: Callable[[str], None]) -> None:
    edited(bundle, lambda manifest: [variant.pop("requires_isa") for variant in manifest["variants"]])
    assert [len(variant.requires_isa) > 0 for variant in read_bundle(bundle).variants] == [False, True, False, True]
    host(CASCADE_LAKE)
    assert all(test.state == "ok" for test in verify_bundle(bundle)[1])
    host(HASWELL)
    assert load(bundle).variant.name == FP32
