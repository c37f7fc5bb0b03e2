"""Report files: what is written is read; everything else is refused in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from former_reports import signed, version_1, version_2
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_reports import a_report, an_entry
from page_reports import full_report

from edgebert.core.store import hash_json
from edgebert.errors import InputError
from edgebert.report.bounded import LARGEST_BYTES
from edgebert.report.file import read_report, read_reports, report_text, write_report
from edgebert.report.gates import Gate
from edgebert.report.packed import MOST, packed_count
from edgebert.report.rounds import Round
from edgebert.report.samples import LARGEST, Samples
from edgebert.report.search_record import SearchRecord


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a value in every field; do not write into it."""
    path = tmp_path_factory.mktemp("written") / "report.json"
    write_report(path, full_report())
    return path


@given(hnp.arrays(np.int64, st.integers(0, 300), elements=st.integers(0, LARGEST)))
def test_samples_come_back_from_their_packed_form_as_they_were(values: Any) -> None:
    samples = Samples(values)
    assert Samples.unpacked(json.loads(json.dumps(samples.packed()))) == samples == tuple(values.tolist())


def test_samples_pack_to_a_few_bytes_each() -> None:
    latencies = (1e6 * np.exp(np.random.default_rng(0).normal(0, 0.1, 5000))).astype(np.int64)
    assert len(Samples(latencies).packed()["data"]) < 5 * 5000


@pytest.mark.parametrize(
    "value", [[1.5], [-1], [float("nan")], ["1"], [True], [1, True], [1, np.True_], [LARGEST + 1], [[1]], 7, None, "12"]
)
def test_samples_refuse_what_no_clock_gives(value: Any) -> None:
    with pytest.raises(ValueError, match="sample"):
        Samples._validated(value)


def packed(**changes: Any) -> dict[str, Any]:
    return {**Samples([3, 5, 4]).packed(), **changes}


@pytest.mark.parametrize(
    "form",
    [
        packed(count=2),
        packed(count=4),
        packed(count=-1),
        packed(count=MOST + 1),
        packed(count="3"),
        packed(encoding="other"),
        packed(data="!"),
        packed(data=Samples([3, 5, 4]).packed()["data"][:-8]),
        packed(data=5),
        packed(extra=1),
        {},
    ],
)
def test_packed_samples_are_refused_when_they_are_not_what_they_say(form: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="samples"):
        Samples.unpacked(form)


def test_packed_samples_never_take_more_memory_than_their_count_says() -> None:
    import base64
    import tracemalloc
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(200_000_000), 9)).decode()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="do not hold the 3"):
            Samples.unpacked(packed(data=bomb))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_packed_samples_of_a_file_count_together() -> None:
    form = packed(count=MOST // 2 + 1)
    content = {"a": [{"b": form}, {"c": form, "count": 7}], "d": packed(count=-5), "e": packed(count="9"), "f": [1, 2]}
    assert packed_count(content) == 2 * (MOST // 2 + 1)


def test_report_that_says_it_holds_more_samples_than_fit_is_refused(written: Path, tmp_path: Path) -> None:
    content = json.loads(written.read_text())
    del content["sha256"]
    one = content["entries"][0]["rounds"][0]["latencies_ns"]
    one["count"] = MOST - 1  # a list of its own could have so many
    (tmp_path / "full.json").write_text(json.dumps({**content, "sha256": hash_json(content)}))
    with pytest.raises(InputError, match=r"says that it holds \d+ samples, more than"):
        read_report(tmp_path / "full.json")


def test_report_comes_back_as_it_was_written(written: Path, tmp_path: Path) -> None:
    first = read_report(written)
    write_report(tmp_path / "deep" / "again.json", first)
    second = read_report(tmp_path / "deep" / "again.json")
    assert second == first
    assert [entry.latencies_ms().tolist() for entry in second.entries] == [
        entry.latencies_ms().tolist() for entry in first.entries
    ]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["again.json"]


def test_report_of_the_first_version_is_read(written: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(version_1(json.loads(written.read_text()))))
    old, new = read_report(tmp_path / "old.json"), read_report(written)
    assert old.schema_version == new.schema_version == 3
    for metric in ("accuracy", "macro_f1", "agreement", "p50_ms", "load_ms", "peak_rss_mb", "speedup"):
        assert [old.value(entry, metric) for entry in old.entries] == [new.value(entry, metric) for entry in new.entries]
    assert {old.value(entry, "macs") for entry in old.entries} == {None}


def test_report_may_be_formatted_anew(written: Path, tmp_path: Path) -> None:
    content = json.loads(written.read_text())
    (tmp_path / "formatted.json").write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert read_report(tmp_path / "formatted.json") == read_report(written)


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    """An edit of the parsed file, written back with the right checksum: the content itself must then be refused."""

    def edit(text: str) -> str:
        content = json.loads(text)
        del content["sha256"]
        change(content)
        return json.dumps({**content, "sha256": hash_json(content)})

    return edit


def first_round(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["entries"][0]["rounds"][0]
    return found


def accuracy(content: dict[str, Any]) -> dict[str, Any]:
    """The statistics of accuracy of the first entry."""
    found: dict[str, Any] = content["entries"][0]["statistics"]["accuracy"]
    return found


def second(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    """An edit of the same report in the second version's form, with the right checksum."""

    def edit(text: str) -> str:
        content = version_2(json.loads(text))
        change(content)
        return json.dumps(signed(content))

    return edit


def old(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    """An edit of the same report in the first version's form."""

    def edit(text: str) -> str:
        content = version_1(json.loads(text))
        change(content)
        return json.dumps(content)

    return edit


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", "it is empty"),
    "truncated": (lambda text: text[: len(text) // 2], "ends too early"),
    "last byte gone": (lambda text: text.rstrip()[:-1], "ends too early"),
    "not JSON": (lambda text: "\x00\x01", "not JSON"),
    "a list": (lambda text: "[]", "not a report of edgebert"),
    "another file": (lambda text: '{"recipe": 1}', "not a report of edgebert"),
    "endless": (lambda text: "[" * 200_000, "more than 40 levels"),
    "nested": (edited(lambda found: found.update(recipe=json.loads("[" * 300 + "]" * 300))), "more than 40 levels"),
    "nested objects": (
        edited(lambda found: found.update(recipe=json.loads('{"a":' * 50 + "1" + "}" * 50))),
        "more than 40 levels",
    ),
    "many lists": (lambda text: text.replace('"cpu": "', '"cpu": "' + "[" * 2_000_001, 1), "more than 12000000 values or"),
    "many values": (lambda text: text.replace('"cpu": "', '"cpu": "' + "," * 12_000_001, 1), "more than 12000000 values or"),
    "many entries": (edited(lambda found: found.update(entries=found["entries"][:1] * 5001)), "more than 5000 entries"),
    "endless version": (lambda text: text.replace('"schema_version": 3', f'"schema_version": {10**309}'), "beyond 2\\^63"),
    "more digits than Python reads": (lambda text: text.replace('"size_bytes": ', '"size_bytes": 1' + "0" * 5000, 1), "beyond"),
    "newer": (lambda text: text.replace('"schema_version": 3', '"schema_version": 4'), "reads versions 1 to 3"),
    "version is text": (lambda text: text.replace('"schema_version": 3', '"schema_version": "3"'), "not a report of edgebert"),
    "version 0": (lambda text: text.replace('"schema_version": 3', '"schema_version": 0'), "not a report of edgebert"),
    "edited": (lambda text: text.replace('"size_bytes": ', '"size_bytes": 1'), "was altered"),
    "no checksum": (lambda text: text.replace('"sha256"', '"sha257"'), "was altered"),
    "no such key": (edited(lambda found: found.update(color="red")), "color"),
    "no entries": (edited(lambda found: found.update(entries=[])), "entries"),
    "negative": (edited(lambda found: first_round(found).update(latencies_ns=[-5] * 16)), "negative"),
    "not a number": (
        edited(lambda found: first_round(found).update(latencies_ns=[float("nan")] * 16)),
        "latencies_ns: it is not a finite",
    ),
    "zero": (edited(lambda found: first_round(found).update(latencies_ns=[0] * 16)), "a latency is 0"),
    "too few lengths": (edited(lambda found: first_round(found).update(lengths=[5])), "as many lengths"),
    "endless load": (edited(lambda found: first_round(found).update(load_ns=float("inf"))), "load_ns"),
    "negative memory": (edited(lambda found: first_round(found).update(peak_rss_bytes=-1)), "peak_rss_bytes"),
    "first version, NaN": (old(lambda found: first_round(found)["latencies_ns"].__setitem__(0, float("nan"))), "not a finite"),
    "first version, negative": (old(lambda found: first_round(found)["latencies_ns"].__setitem__(3, -1)), "negative"),
    "predictions of version 2": (edited(lambda found: found["entries"][0].update(predictions=[0, 1, 1, 0])), "predictions"),
    "statistics of too few examples": (
        edited(lambda found: accuracy(found)["columns"].__setitem__(0, [1])),
        "numbers of examples",
    ),
    "statistics of no metric's form": (edited(lambda found: accuracy(found).update(columns=[])), "not those of mean"),
    "NaN in statistics": (
        edited(lambda found: accuracy(found).update(columns=[[float("nan")]])),
        "columns: it is not a finite",
    ),
    "unknown reduction": (edited(lambda found: accuracy(found).update(reduction="median")), "is no reduction that this"),
    "second version, altered": (
        lambda text: json.dumps(signed(version_2(json.loads(text)) | {"recipe": "x"}) | {"recipe": "y"}),
        "was altered",
    ),
    "second version, too few predictions": (
        second(lambda found: found["entries"][0].update(predictions=[1])),
        "onnxruntime/fp32 has 1 predictions and there are 4 references",
    ),
    "second version, half a prediction": (
        second(lambda found: found["entries"][0]["predictions"].__setitem__(0, 0.5)),
        "no whole numbers",
    ),
    "second version, predictions that are none": (second(lambda found: found["entries"][0].update(predictions=5)), "no list"),
    "second version, references that are none": (second(lambda found: found.update(references=5)), "no list"),
    "second version, labels that are none": (second(lambda found: found.update(labels=5)), "no list"),
    "second version, entries that are none": (second(lambda found: found.update(entries=5)), "no list"),
    "second version, an entry that is none": (second(lambda found: found.update(entries=["ab"])), "entries"),
    "second version, no target": (second(lambda found: found["entries"][0].pop("target")), "target"),
    "first version, predictions that are none": (old(lambda found: found["entries"][0].update(predictions="0110")), "no list"),
    "first version, text": (old(lambda found: first_round(found)["latencies_ns"].__setitem__(3, "1")), "whole numbers"),
}


def numbers_of(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all numbers in parsed JSON."""
    if isinstance(content, dict | list):
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        return [found for key, part in parts for found in numbers_of(part, (*path, key))]
    return [path] if isinstance(content, int | float) and not isinstance(content, bool) else []


@pytest.mark.parametrize("version", [version_1, version_2, lambda content: content], ids=["first", "second", "third"])
def test_a_number_of_309_digits_anywhere_is_refused_in_one_sentence(version: Any, written: Path, tmp_path: Path) -> None:
    content = version(json.loads(written.read_text()))
    kinds = {tuple(key for key in path if isinstance(key, str)): path for path in numbers_of(content)}
    assert len(kinds) > 15
    for path in kinds.values():
        for huge in (10**309, -(10**309), 1e300):
            changed = json.loads(json.dumps(content))
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = huge
            file = tmp_path / "report.json"
            file.write_text(json.dumps(changed if version is version_1 else signed(changed)))
            with pytest.raises(InputError, match=r"beyond 2\^63"):
                read_report(file)


def test_labels_of_earlier_versions_are_no_bomb(written: Path, tmp_path: Path) -> None:
    content = version_2(json.loads(written.read_text()))
    content["entries"][0]["predictions"][0] = 10**18
    (tmp_path / "report.json").write_text(json.dumps(signed(content)))
    with pytest.raises(InputError, match="number a label that no model has"):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize("name", FAULTS)
def test_report_is_refused_in_one_sentence_when_no_measurement_wrote_it(name: str, written: Path, tmp_path: Path) -> None:
    change, message = FAULTS[name]
    text = written.read_text()
    changed = change(text)
    assert changed != text
    (tmp_path / "report.json").write_text(changed)
    with pytest.raises(InputError, match=message) as caught:
        read_report(tmp_path / "report.json")
    assert str(tmp_path / "report.json") in str(caught.value)


def test_report_is_refused_when_it_is_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", LARGEST_BYTES + 1)
    plain = "is not a file"
    files = {"pipe": plain, "link": plain, "device": plain, ".": plain, "large": "larger than", "absent.json": "cannot be read"}
    for name, message in files.items():
        with pytest.raises(InputError, match=message):
            read_report(tmp_path / name)


def test_folder_stands_for_its_report_or_for_all_of_its_json_files(written: Path, tmp_path: Path) -> None:
    report = read_report(written)
    assert [file for file, _ in read_reports([written.parent])] == [written]
    for name in ("b.json", "a.json"):
        write_report(tmp_path / name, report)
    assert [file.name for file, _ in read_reports([tmp_path])] == ["a.json", "b.json"]
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "holds no report"), (tmp_path / "none", "There is no report")):
        with pytest.raises(InputError, match=message):
            list(read_reports([path]))


def test_report_that_cannot_be_written_leaves_nothing(written: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.json", read_report(written))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "folder", read_report(written))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


MANY = """
import resource, sys
import numpy as np
from pathlib import Path
from edgebert.report.file import read_report
report = read_report(Path(sys.argv[1]))
entry = report.entries[0]
print(len(entry.latencies_ms()), entry.percentile_ms(50), entry.percentile_ms(99.9), int(
    next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) // 1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["packed", "listed"])
def test_ten_million_samples_are_read_in_bounded_memory(form: str, written: Path, tmp_path: Path) -> None:
    report = read_report(written)
    values = (1e6 * np.exp(np.random.default_rng(0).normal(0, 0.1, 10_000_000))).astype(np.int64)
    many = report.entries[0].rounds[0].model_copy(update={"latencies_ns": Samples(values), "lengths": Samples()})
    large = report.model_copy(update={"entries": (report.entries[0].model_copy(update={"rounds": (many,)}),)})
    text = report_text(large)
    if form == "listed":
        content = version_1(json.loads(report_text(report)))
        content["entries"] = content["entries"][:1]
        content["entries"][0]["rounds"] = content["entries"][0]["rounds"][:1]
        content["entries"][0]["rounds"][0].update(latencies_ns="HERE", lengths=[])
        text = json.dumps(content).replace('"HERE"', str(values.tolist()))
    (tmp_path / "many.json").write_text(text)
    done = subprocess.run([sys.executable, "-c", MANY, tmp_path / "many.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, p50, p999, megabytes = done.stdout.split()
    assert int(count) == 10_000_000
    assert float(p50) == pytest.approx(np.median(values) / 1e6)
    assert float(p999) == pytest.approx(np.percentile(values, 99.9) / 1e6)
    assert int(megabytes) < 1500


def test_former_names_are_read_and_no_longer_written(tmp_path: Path) -> None:
    search = SearchRecord(
        method="static", rewrites=(), repairs=(), excluded_nodes=("dense",), tuning={}, passed=True, rows=4, trials=()
    )
    timed = Round(round=0, latencies_ns=(5,), tokenise_ns=(1,), lengths=(7,), load_ns=1, reference_workload_ns=Samples([3, 4]))
    intermediate = an_entry([timed], role="intermediate", search=search)
    gates = (Gate(metric="roofline_ratio", max=8.0),)
    report = a_report(an_entry(role="baseline"), intermediate, gates=gates)
    content = json.loads(report_text(report))
    written = content["entries"][1]
    assert (written["role"], content["gates"][0]["metric"]) == ("intermediate", "roofline_ratio")
    assert written["search"]["excluded_nodes"] == ["dense"] and "reference_workload_ns" in written["rounds"][0]
    former = version_2(content)
    entry = former["entries"][1]
    assert (entry["role"], former["gates"][0]["metric"]) == ("step", "floor_ratio")
    assert entry["search"]["kept_float"] == ["dense"] and "pulse_ns" in entry["rounds"][0]
    for name, kept in (("present", content), ("former", signed(former))):
        (tmp_path / name).write_text(json.dumps(kept))
        assert read_report(tmp_path / name).model_copy(update={"sha256": None}) == report
