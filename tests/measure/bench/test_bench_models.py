"""Models that can be measured: every kind of path is recognised, hashed as its artifact was, or refused in one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from fake_session import FakeSession
from hypothesis import given
from hypothesis import strategies as st
from notes import Notes

from edgebert.bundle.read import read_bundle
from edgebert.bundle.trust.sign import sign_bundle
from edgebert.compress.recipe_file import load_recipe
from edgebert.core.progress import Silent
from edgebert.core.store import hash_file
from edgebert.errors import BundleError, EnvironmentFault, InputError, RecipeError, SourceError, StageError
from edgebert.measure.bench.data_file import DataFile
from edgebert.measure.bench.model_files import external_files, graph_files
from edgebert.measure.bench.models import POSITIONS, BenchModel, ModelRequest, find_models, named_apart
from edgebert.measure.bench.probe import probe
from edgebert.measure.bench.probe_worker import Probe
from edgebert.measure.bench.queries import Asked, Lengths, QuerySource
from edgebert.measure.bench.run import plan_notes, run
from edgebert.measure.bench.scoring import predict, references
from edgebert.measure.bench.sweep import BenchOptions, Planned, make_plan
from edgebert.measure.latency import process
from edgebert.measure.machine.kernel_files import KernelFiles
from edgebert.measure.predictions import predict_rows, statistics_of
from edgebert.report.rounds import Setting
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Array
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task
from edgebert.tasks.base import Encoded, collate


def find(path: Path, *variants: str, runtime: str | None = None, tokenizer: Path | None = None) -> list[BenchModel]:
    return find_models(str(path), ModelRequest(variants, runtime, tokenizer), Silent())


@pytest.fixture
def graph(bundle: Path) -> Path:
    """An ONNX file of the test's own, in a Hub folder."""
    return bundle / "onnx" / "model.onnx"


def test_a_bundle_is_measured_as_it_was_checked(finished: Path) -> None:
    run = finished / "runs" / "recipe"
    manifest = read_bundle(run / "bundle")
    (selected,) = find(run / "bundle")
    assert selected.name == manifest.selected
    assert find(run) == [replace(selected, path=run)]
    named = find(run, "openvino/fp32", "onnxruntime/int8-static")
    assert [bench_model.name for bench_model in named] == ["openvino/fp32", "onnxruntime/int8-static"]
    for bench_model in named:
        variant = manifest.variant(bench_model.name)
        assert variant is not None
        assert (bench_model.artifact, bench_model.target, bench_model.labels) == (
            variant.artifact,
            variant.target,
            manifest.labels,
        )
        assert (bench_model.max_length, bench_model.pad_id, bench_model.columns) == (32, 0, ("text",))
    for runtime in ("onnxruntime", "openvino"):
        assert [bench_model.target.runtime for bench_model in find(run, runtime=runtime)] == [runtime]


def test_a_bundle_is_hashed_before_anything_is_opened(bundle: Path) -> None:
    (bundle / "onnx" / "model_quantized.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"model_quantized\.onnx was altered"):
        find(bundle, "onnxruntime/fp32")


@pytest.mark.parametrize(
    ("variants", "runtime", "message"),
    [(("onnxruntime/int2",), None, "no variant onnxruntime/int2"), (("openvino/fp32",), "onnxruntime", "does not run on")],
)
def test_a_variant_that_is_not_there_is_named(bundle: Path, variants: tuple[str, ...], runtime: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find(bundle, *variants, runtime=runtime)


def test_what_this_cpu_would_answer_wrongly_is_not_measured(bundle: Path) -> None:
    manifest = json.loads((bundle / "edgebert.json").read_text())
    for variant in manifest["variants"]:
        if variant["precision"] == "int8":
            variant["requires_isa"] = ["arm-i8mm"] if "avx2" in str(get_isas()) else ["amx"]
    manifest["selected"] = "onnxruntime/int8-dynamic"
    (bundle / "edgebert.json").write_text(json.dumps(manifest))
    sign_bundle(bundle)
    with pytest.raises(EnvironmentFault, match="this CPU has none of"):
        find(bundle, "onnxruntime/int8-dynamic")
    notes = Notes()
    (instead,) = find_models(str(bundle), ModelRequest(), notes)
    assert instead.name.endswith("fp32")
    assert "onnxruntime/int8-dynamic was selected" in notes.lines[0] and "is measured instead" in notes.lines[0]


def get_isas() -> tuple[str, ...]:
    from edgebert.runtimes.isa import host_cpu

    return host_cpu().isas


def test_a_graph_has_the_hash_of_its_artifact_wherever_it_lies(bundle: Path) -> None:
    for variant in read_bundle(bundle).variants:
        (bench_model,) = find(bundle / variant.file)
        assert bench_model.artifact == variant.artifact
        assert bench_model.name == Path(variant.file).stem
        sizes = [file.stat().st_size for file in (bundle / variant.file).parent.glob(f"{Path(variant.file).stem}.*")]
        assert bench_model.size_bytes == sum(sizes)
        assert bench_model.target == Target(runtime=variant.target.runtime)
        assert bench_model.tokenizer == bundle / "tokenizer.json"  # one folder up, as in a Hub folder
        assert (bench_model.task, bench_model.labels) == ("text-classification", ("negative", "positive"))
        assert bench_model.max_length == 32  # as it is served, by tokenizer_config.json


def test_a_graph_that_stands_alone_is_asked_without_text(graph: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "deep" / "net.onnx"
    alone.parent.mkdir(parents=True)
    shutil.copyfile(graph, alone)
    (bench_model,) = find(alone)
    assert (bench_model.serving, bench_model.task, bench_model.max_length) == (None, None, POSITIONS)
    (given,) = find(alone, tokenizer=graph.parent.parent / "tokenizer.json")
    assert given.serving is not None and given.task is None
    assert given.artifact == bench_model.artifact


def test_weights_beside_an_onnx_file_belong_to_it(graph: Path, tmp_path: Path) -> None:
    model = onnx.load(graph)
    split = tmp_path / "split.onnx"
    onnx.save_model(model, split, save_as_external_data=True, location="split.onnx.data", size_threshold=64)
    assert external_files(graph) == [] and external_files(split) == ["split.onnx.data"]
    assert graph_files(split) == {"model.onnx": split, "model.onnx.data": tmp_path / "split.onnx.data"}
    (before,) = find(split)
    assert before.size_bytes == split.stat().st_size + (tmp_path / "split.onnx.data").stat().st_size
    content = bytearray((tmp_path / "split.onnx.data").read_bytes())
    content[-1] ^= 1
    (tmp_path / "split.onnx.data").write_bytes(content)
    assert find(split)[0].artifact != before.artifact
    (tmp_path / "split.onnx.data").unlink()
    with pytest.raises(SourceError, match=r"keeps its weights in split\.onnx\.data"):
        find(split)


def test_names_of_weight_files_that_lead_elsewhere_are_not_followed(tmp_path: Path) -> None:
    for name in (b"../secret", b"/etc/passwd", b""):
        (tmp_path / "m.onnx").write_bytes(b"\x08\x01\x0a\x08location\x12" + bytes([len(name)]) + name + b"\x00" * 4)
        assert external_files(tmp_path / "m.onnx") == []
    long = b"n" * 200
    (tmp_path / "m.onnx").write_bytes(b"\x0a\x08location\x12\xc8\x01" + long)
    assert external_files(tmp_path / "m.onnx") == [long.decode()]


@pytest.mark.slow
def test_a_transformers_folder_is_run_by_torch(model_dir: Path) -> None:
    (bench_model,) = find(model_dir)
    assert (bench_model.name, bench_model.target, bench_model.task) == ("model", Target(runtime="torch"), "text-classification")
    assert (bench_model.labels, bench_model.max_length, bench_model.columns) == (("negative", "positive"), 64, ("text",))
    assert bench_model.size_bytes >= (model_dir / "model.safetensors").stat().st_size
    notes = Notes()
    with pytest.raises(SourceError, match="has no graph for onnxruntime"):
        find(model_dir, runtime="onnxruntime")
    beside = ModelRequest(runtime="onnxruntime", must=False)  # a baseline, which may be another kind of model
    assert find_models(str(model_dir), beside, notes) == [bench_model]
    assert "--runtime onnxruntime chooses nothing" in notes.lines[0]
    found = probe(bench_model, bench_model.target, usual=8, longest=64)
    assert found.query_s > 0 and found.fixed_batch is found.fixed_length is None


def test_a_folder_with_graphs_leaves_a_choice(model_dir: Path, bundle: Path) -> None:
    shutil.copytree(bundle / "onnx", model_dir / "onnx")
    shutil.copytree(bundle / "openvino", model_dir / "openvino")
    assert find(model_dir)[0].target.runtime == "torch"
    assert find(model_dir, runtime="onnxruntime")[0].file == model_dir / "onnx" / "model.onnx"
    assert find(model_dir, runtime="openvino")[0].file == model_dir / "onnx" / "model.onnx"  # OpenVINO reads ONNX, too
    (model_dir / "model.safetensors").unlink()
    assert find(model_dir)[0].file == model_dir / "onnx" / "model.onnx"
    shutil.rmtree(model_dir / "onnx")
    assert find(model_dir)[0].file == model_dir / "openvino" / "openvino_model.xml"
    assert find(model_dir)[0].name == "model"


NO_MODELS: list[tuple[str, dict[str, str], str]] = [
    ("absent", {}, "There is no"),
    ("x.onnx", {"x.onnx": ""}, "is empty"),
    ("x.onnx", {"x.onnx": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"}, "is a Git LFS pointer"),
    ("x.xml", {"x.xml": "<net/>"}, "has no x.bin beside it"),
    ("x.xml", {"x.xml": "{}", "x.bin": "x"}, "it is no XML"),
    ("model.bin", {"model.bin": "x"}, "neither an ONNX file nor an OpenVINO IR"),
    ("", {}, "is no model that can be measured"),
    (
        "",
        {"config.json": '{"model_type": "bert"}', "pytorch_model.bin": "x", "tokenizer.json": "{}"},
        "only as pytorch_model.bin",
    ),
    ("", {"my.onnx": "x"}, "Did you mean"),
    ("x" * 5000, {}, "too long"),
]
"""The path that is named, the files in the folder, and the error."""


@pytest.mark.parametrize(("name", "files", "message"), NO_MODELS, ids=[message for *_, message in NO_MODELS])
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    tmp_path: Path, name: str, files: dict[str, str], message: str
) -> None:
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        find(tmp_path / name)
    assert caught.value.exit_code == 2 and "\n" not in caught.value.message


def test_a_folder_that_is_nothing_known_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        find(tmp_path)
    assert all(word in str(caught.value) for word in ("edgebert.json", "model.safetensors", "onnx/model.onnx"))


def test_runtime_that_does_not_open_the_file_is_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="does not run on onnxruntime"):
        find(bundle / "openvino" / "openvino_model.xml", runtime="onnxruntime")
    assert find(bundle / "onnx" / "model.onnx", runtime="openvino")[0].target.runtime == "openvino"


@given(
    st.lists(st.sampled_from(["/a/x/m.onnx", "/a/y/m.onnx", "/b/x/m.onnx", "/m.onnx", "/a/x/n.onnx"]), min_size=1, max_size=6)
)
def test_no_two_models_have_one_name(paths: list[str]) -> None:
    plain = BenchModel("", Path("/"), Path("/"), Target(runtime="torch"), "", 0, None, (), ("text",), 8, 0, 9, None)
    named = named_apart([replace(plain, name=Path(path).stem, path=Path(path)) for path in paths])
    names = [bench_model.name for bench_model in named]
    assert len(set(names)) == len(names)
    assert [bench_model.path for bench_model in named] == [Path(path) for path in paths]
    assert all(Path(path).stem in name for name, path in zip(names, paths, strict=True))
    if len({Path(path).stem for path in paths}) == len(paths):
        assert names == [Path(path).stem for path in paths]


def test_an_onnx_file_that_is_none_is_the_users_fault(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph at all")
    (bench_model,) = find(tmp_path / "x.onnx")
    with pytest.raises(SourceError, match=r"ONNX Runtime cannot open .*x\.onnx") as caught:
        probe(bench_model, bench_model.target, usual=8, longest=8)
    assert caught.value.exit_code == 2


def with_inputs(graph: Path, out: Path, batch: int, length: int) -> Path:
    """The same graph, which takes nothing but queries of this shape."""
    model = onnx.load(graph)
    for value in model.graph.input:
        for size, dimension in zip((batch, length), value.type.tensor_type.shape.dim, strict=True):
            dimension.ClearField("dim_param")
            dimension.dim_value = size
    onnx.save(model, out)
    return out


def test_a_graph_of_fixed_sizes_is_asked_nothing_else(graph: Path) -> None:
    file = with_inputs(graph, graph.parent / "fixed.onnx", 2, 16)
    (bench_model,) = find(file)
    notes = Notes()
    (planned,) = make_plan([(bench_model, "candidate")], BenchOptions(queries=3, warmup=0), QuerySource(None, 0), notes)
    assert (planned.target.batch, planned.target.padding, planned.model.max_length) == (2, "max_length", 16)
    assert max(planned.asked.lengths) <= 16 and "takes 16 tokens" in notes.lines[0]
    with pytest.raises(InputError, match="takes 2 texts at once"):
        make_plan([(bench_model, "candidate")], BenchOptions(batches=(4,), queries=3), QuerySource(None, 0), Silent())


def test_answers_of_a_graph_of_fixed_batch_are_those_of_any_other(graph: Path, finished: Path) -> None:
    file = with_inputs(graph, graph.parent / "fixed.onnx", 5, 16)  # 24 rows are no multiple of 5
    (fixed,), (free,) = find(file), find(graph)
    source = QuerySource(DataFile(finished / "data" / "eval.csv", label="label"), 0)
    options = BenchOptions(queries=2, rounds=1, warmup=0, settle=False)
    report = run(make_plan([(fixed, "candidate")], options, source, Silent()), options, source, Silent()).report
    target = Target(runtime="onnxruntime", padding="max_length")
    wanted = predict(replace(free, max_length=16), target, source.rows(free), Silent())
    right = references(source.rows(free), free)
    assert report.entries[0].statistics == statistics_of(get_task("text-classification"), wanted, right, free.labels)
    streams = BenchOptions(scenarios=("multi-stream",), queries=2)
    with pytest.raises(InputError, match=r"8 streams are not a multiple of it") as caught:
        make_plan([(fixed, "candidate")], streams, source, Silent())
    assert "--streams 10" in str(caught.value)
    (planned,) = make_plan([(fixed, "candidate")], replace(streams, streams=10), source, Silent())
    assert planned.setting.streams == 10
    # A baseline that leaves the batch open takes the one that is fixed.
    both = make_plan([(free, "baseline"), (fixed, "candidate")], options, source, Silent())
    assert [item.target.batch for item in both] == [5, 5]


def test_a_prediction_of_nan_names_the_model_and_the_first_row(graph: Path) -> None:
    class Damaged(FakeSession):
        """Answers NaN to the fifth row, of two a batch."""

        asked = 0

        def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
            outputs = super().predict(batch)
            self.asked += 1
            outputs["logits"][0, 1] = np.nan if self.asked == 3 else 0
            return outputs

    serving, target = find(graph)[0].serving, Target(runtime="onnxruntime", batch=2)
    assert serving is not None
    with Silent().step("predict") as step, pytest.raises(StageError, match="the model answers NaN or infinity, first on row 5"):
        predict_rows(Damaged().predict, serving, [[{"text": "fine"}] * 6], target, step, name="the model")


def test_what_is_announced_counts_the_texts_of_a_query_once(graph: Path) -> None:
    (bench_model,) = find(graph)
    seen = Probe(query_s=0.5, texts=8)
    target = bench_model.target.model_copy(update={"batch": 8})
    planned = Planned(bench_model, "candidate", target, Setting(), Asked([], "", (8,), False), seen, Lengths("8", (8,)))
    options = BenchOptions(queries=100, warmup=0, settle=False)
    assert planned.seconds(options) == pytest.approx(50, abs=2)


@pytest.mark.parametrize("content", ["<net/>", "<net", "<html><body>404</body></html>"])
def test_an_ir_that_is_none_is_the_users_fault(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.xml").write_text(content)
    (tmp_path / "x.bin").write_bytes(b"x")
    (bench_model,) = find(tmp_path / "x.xml")
    with pytest.raises(SourceError, match=r"OpenVINO cannot open .*x\.xml") as caught:
        probe(bench_model, bench_model.target, usual=8, longest=8)
    assert caught.value.exit_code == 2 and ".cpp" not in str(caught.value)


def test_a_process_that_is_killed_while_it_looks_says_what_may_be_the_reason(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench_model,) = find(graph)
    monkeypatch.setattr(process, "sys", SimpleNamespace(executable=str(graph.parent / "dies")))
    (graph.parent / "dies").write_text("#!/bin/sh\nkill -9 $$\n")
    (graph.parent / "dies").chmod(0o755)
    with pytest.raises(StageError, match=r"opens .* was ended by SIGKILL") as caught:
        probe(bench_model, bench_model.target, usual=8, longest=8)
    assert "out of memory" in str(caught.value)


def test_two_bundles_that_differ_are_named_as_such_before_they_are_measured(graph: Path) -> None:
    (bench_model,) = find(graph)
    source, options = QuerySource(None, 0), BenchOptions(queries=2, warmup=0)
    (one,) = make_plan([(bench_model, "candidate")], options, source, Silent())
    other = replace(one, role="baseline", target=one.target.model_copy(update={"threads": 3}))
    notes = plan_notes([other, one], options, source)
    assert any("nothing will be compared" in note for note in notes)
    assert any("--threads 1 --batch 1" in note for note in notes)
    assert not any("nothing will" in note for note in plan_notes([replace(one, role="baseline"), one], options, source))


def test_threads_beyond_the_containers_time_are_warned_of(graph: Path, tmp_path: Path) -> None:
    (bench_model,) = find(graph)
    source, options = QuerySource(None, 0), BenchOptions(queries=2, warmup=0)
    (planned,) = make_plan([(bench_model, "candidate")], options, source, Silent())
    group = tmp_path / "root" / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "root" / "proc" / "self").mkdir(parents=True)
    (tmp_path / "root" / "proc" / "self" / "mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "root" / "proc" / "self" / "cgroup").write_text("0::/\n")
    assert plan_notes([planned], options, source, KernelFiles(tmp_path / "root")) == [
        "warning: 1 thread, and this container may use 0.5 cores' time: it is stopped again and again meanwhile"
    ]


def test_a_graph_with_other_inputs_is_refused(graph: Path) -> None:
    model = onnx.load(graph)
    model.graph.input[0].name = "pixel_values"
    for node in model.graph.node:
        node.input[:] = ["pixel_values" if name == "input_ids" else name for name in node.input]
    onnx.save(model, graph)
    (bench_model,) = find(graph)
    with pytest.raises(SourceError, match="wants the input"):
        probe(bench_model, bench_model.target, usual=8, longest=8)


def test_a_graph_that_ends_before_the_length_says_so(graph: Path, tmp_path: Path) -> None:
    shutil.copyfile(graph, tmp_path / "alone.onnx")  # no config beside it says that it has 64 positions
    (bench_model,) = find(tmp_path / "alone.onnx")
    with pytest.raises(SourceError, match="does not take 65 tokens"):
        probe(bench_model, bench_model.target, usual=8, longest=65)


def test_a_recipe_does_not_take_torch_for_a_target(recipe: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(recipe), ["targets=[{runtime: torch}]"])
    (problem,) = caught.value.problems
    assert problem.path == "targets" and "edgebert bench" in problem.message
    assert "onnxruntime or openvino" in problem.message


ASKS = """
import sys, numpy, torch
from pathlib import Path
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
ids = numpy.array([[2, 7, 9, 3]])
batch = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0, "unheard_of": ids}
for threads, folder in enumerate(sys.argv[1:], start=2):
    session = get_runtime("torch").open(Path(folder), Target(runtime="torch", threads=threads))
    outputs = session.predict(batch)
    print(torch.get_num_threads(), sorted(outputs), outputs[sorted(outputs)[0]].dtype)
"""


@pytest.mark.slow
def test_torch_opens_what_a_model_is_with_the_threads_of_the_target(encoder_template: Path, model_template: Path) -> None:
    folders = [str(encoder_template), str(model_template)]
    done = subprocess.run([sys.executable, "-c", ASKS, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["2 ['last_hidden_state', 'pooler_output'] float32", "3 ['logits'] float32"]


def test_torch_opens_what_prune_made(model_template: Path, tmp_path: Path) -> None:
    from edgebert.models.load import load_model, save_model
    from edgebert.models.surgery import Units, prune
    from edgebert.tasks import get_task

    folder = Path(shutil.copytree(model_template, tmp_path / "pruned"))
    smaller = prune(load_model(folder, get_task("text-classification")), {0: Units((0, 2), tuple(range(16)))})
    save_model(smaller, folder)
    (bench_model,) = find(folder)
    batch = collate([Encoded((2, 7, 9, 3), (0,) * 4)], length=4, pad_id=0)
    session = get_runtime("torch").open(folder, Target(runtime="torch"))
    import torch

    with torch.inference_mode():
        expected = smaller(**{name: torch.from_numpy(value) for name, value in batch.items()}).logits.numpy()
    np.testing.assert_allclose(session.predict(batch)["logits"], expected, atol=1e-4 * np.abs(expected).max())
    assert bench_model.size_bytes < find(model_template)[0].size_bytes
    assert hash_file(folder / "config.json") != hash_file(model_template / "config.json")


@pytest.mark.slow
def test_weights_that_are_damaged_are_the_users_fault(model_dir: Path) -> None:
    (bench_model,) = find(model_dir)
    (model_dir / "model.safetensors").write_bytes(b"")
    with pytest.raises(SourceError, match="torch cannot open"):
        probe(bench_model, bench_model.target, usual=8, longest=8)
