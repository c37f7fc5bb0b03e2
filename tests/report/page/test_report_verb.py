"""`edgebert report`: what it writes, where, and what it says of what it cannot read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from device_process import WORKSTATION, on_a_device
from page_reports import bench_report, full_report, sections, tree

from edgebert.compress.recipe_file import load_recipe
from edgebert.report.file import write_report
from edgebert.report.page.lineage import recipe_text
from edgebert.report.page.page import is_page, render
from edgebert.report.page.source import read_sources

Cli = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_report(tmp_path / "r.json", full_report())
    return tmp_path / "r.json"


def test_report_writes_a_page_and_says_where(cli: Cli, file: Path, tmp_path: Path) -> None:
    done = cli("report", file)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Wrote report.html (")
    assert is_page(tmp_path / "report.html")
    assert list(tmp_path.glob(".report*")) == []


def test_report_json_says_what_was_written(cli: Cli, file: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "b.json", bench_report())
    written = json.loads(cli("report", file, "b.json", "--out", "sub/p.html", "--json").out)
    assert written["page"] == "sub/p.html" and 1 < written["megabytes"] < 5
    assert [item["verdict"] for item in written["reports"]] == ["PASSED", None]
    assert is_page(tmp_path / "sub" / "p.html")


def test_report_takes_a_folder_of_reports(cli: Cli, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for name in ("a", "b"):
        write_report(folder / f"{name}.json", bench_report())
    written = json.loads(cli("report", folder, "--json").out)
    assert [item["report"] for item in written["reports"]] == ["mine (a)", "mine (b)"]


def test_report_replaces_its_own_page_and_nothing_else(cli: Cli, file: Path, tmp_path: Path) -> None:
    assert cli("report", file).code == 0
    assert cli("report", file).code == 0
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    refused = cli("report", file, "--out", "notes.html")
    assert refused.code == 2 and "no page of edgebert" in refused.err and "--force" in refused.err
    assert (tmp_path / "notes.html").read_text() == "<p>mine</p>"
    assert cli("report", file, "--out", "notes.html", "--force").code == 0
    assert is_page(tmp_path / "notes.html")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.json", "{", "is not a report"),
        ("r.json", '{"schema_version": 9, "entries": []}', "version 9"),
        ("r.json", "", "it is empty"),
        ("other.json", "[]", "is not a report of edgebert"),
    ],
)
def test_report_says_in_a_sentence_what_it_cannot_read(cli: Cli, tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    done = cli("report", name)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "report.html").exists()


def test_report_says_what_is_not_there(cli: Cli, file: Path, tmp_path: Path) -> None:
    assert "There is no report nowhere" in cli("report", "nowhere").err
    (tmp_path / "folder").mkdir()
    done = cli("report", file, "--out", "folder")
    assert done.code == 2 and "is a folder" in done.err
    assert cli("report", file, "--out", "r.json/x.html").code == 2


def test_report_says_that_the_record_of_a_run_is_damaged(cli: Cli, tmp_path: Path) -> None:
    write_report(tmp_path / "run" / "report.json", full_report())
    for damaged in ("{", '{"recipe": 3}', "[]"):
        (tmp_path / "run" / "run.json").write_text(damaged)
        done = cli("report", "run")
        assert done.code == 2 and "run.json is damaged" in done.err


def test_report_leaves_nothing_where_it_cannot_write(cli: Cli, file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    done = cli("report", file)
    assert done.code == 3 and "No space left on device" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json"]


def test_report_opens_the_page(cli: Cli, file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import webbrowser

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert cli("report", file, "--open").code == 0
    assert opened == [(tmp_path / "report.html").as_uri()]


@pytest.mark.parametrize("absent", ["jinja2", "plotly", "scipy"])
def test_report_says_what_to_install_when_the_extra_is_absent(file: Path, tmp_path: Path, absent: str) -> None:
    done = on_a_device("report", file, absent={absent}, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert f"the package {absent}" in done.stderr and 'pip install "edgebert[compare]"' in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_report_needs_nothing_else_of_the_workstation(file: Path, tmp_path: Path) -> None:
    done = on_a_device(
        "report", file, absent=(WORKSTATION | {"onnxruntime", "openvino"}) - {"jinja2", "plotly", "scipy"}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert is_page(tmp_path / "report.html")


def test_page_reads_what_compress_wrote(finished: Path) -> None:
    (found,) = read_sources([finished / "runs" / "recipe"])
    assert found.record is not None
    root = tree(render([found]))
    assert {"lineage", "again", "arithmetic"} <= set(sections(root))
    words = root.all("main")[0].words()
    for step in found.record.steps:
        assert step.step in words and step.sha256[:12] in words


def test_recipe_on_the_page_is_read_by_compress_as_the_same_recipe(finished: Path) -> None:
    (found,) = read_sources([finished / "runs" / "recipe"])
    assert found.record is not None
    copy = finished / "copied.yaml"
    copy.write_text(recipe_text(found.record.recipe), encoding="utf-8")
    try:
        assert load_recipe(str(copy)).recipe.model_dump(mode="json") == found.record.recipe
    finally:
        copy.unlink()
