"""Files as other programs write them: packed, in other encodings, quoted, without a header, by Arrow; and files made to break a
reader."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data import text_open
from edgebert.data.labels import indices_of_labels
from edgebert.data.prepared import PreparedData, prepare_data, source_hash
from edgebert.data.readers import read_rows
from edgebert.data.spec import DataSpec
from edgebert.errors import DataError
from edgebert.measure.bench.data_file import DataFile
from edgebert.tasks import TASKS, get_task

ROWS = [{"text": "a café; good", "label": "positive"}, {"text": 'he said "no",\ttwice', "label": "negative"}]
CSV = 'text,label\na café; good,positive\n"he said ""no"",\ttwice",negative\n'
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
TSV = 'text\tlabel\na café; good\tpositive\n"he said ""no"",\ttwice"\tnegative\n'
ALL_QUOTED = TSV.replace("text\tlabel", '"text"\t"label"').replace("a café; good\tpositive", '"a café; good"\t"positive"')
ALL_QUOTED = ALL_QUOTED.replace("\tnegative", '\t"negative"')


def read(folder: Path, name: str, content: bytes, **spec: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(content)
    return list(read_rows(DataSpec(path=name, **spec), folder / name))


@pytest.mark.parametrize(
    ("name", "content", "spec"),
    [
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0), {}),
        ("a.jsonl.gz", gzip.compress(JSONL.encode(), mtime=0), {}),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0), {}),
        ("a.csv", CSV.encode("utf-16"), {}),
        ("a.csv", b"\xfe\xff" + CSV.encode("utf-16be"), {}),
        ("a.jsonl", JSONL.encode("utf-32"), {}),
        ("a.csv", b"\xef\xbb\xbf" + CSV.encode(), {}),
        ("a.csv.gz", gzip.compress(CSV.encode("utf-16"), mtime=0), {}),
        ("a.csv", b"sep=,\r\n" + CSV.replace("\n", "\r\n").encode(), {}),
        ("a.csv", 'sep=;\ntext;label\n"a café; good";positive\n"he said ""no"",\ttwice";negative\n'.encode(), {}),
        ("a.tsv", TSV.encode(), {}),
        ("a.tsv", ALL_QUOTED.encode(), {}),
        ("a.tsv", TSV.replace("\n", "\r\n").encode(), {}),
        ("a.json", json.dumps(ROWS).encode(), {}),
        ("a.json", json.dumps(ROWS, indent=2).encode(), {}),
        ("a.jsonl", "".join(json.dumps(row, indent=2) + "\n" for row in ROWS).encode(), {}),
        ("a.csv", CSV.removeprefix("text,label\n").encode(), {"header": "none", "columns": {"text": 1, "label": 2}}),
    ],
    ids=str,
)
def test_rows_are_the_same_however_a_program_wrote_them(
    name: str, content: bytes, spec: dict[str, Any], tmp_path: Path
) -> None:
    columns = spec.get("columns", {"text": "text", "label": "label"})
    rows = read(tmp_path, name, content, **spec)
    assert [{column: row[str(source)] for column, source in columns.items()} for row in rows] == ROWS


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b'text\tlabel\nshe said "no"\ta\n"quoted"\tb\n', ['she said "no"', '"quoted"']),
        (b'text\tlabel\n"a ""b"" c"\ta\nan inch is 1"\tb\n', ['"a ""b"" c"', 'an inch is 1"']),
        (b'text\tlabel\n"open\ta\nplain\tb\n', ['"open', "plain"]),
    ],
    ids=["quotes in texts", "one row like pandas'", "open quote"],
)
def test_tsv_with_a_row_that_pandas_would_not_write_keeps_its_quotes(content: bytes, texts: list[str], tmp_path: Path) -> None:
    assert [row["text"] for row in read(tmp_path, "a.tsv", content)] == texts


def test_key_of_a_tsv_that_pandas_quoted_is_that_of_standard_quoting(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(TSV)
    (tmp_path / "b.tsv").write_text('text\tlabel\nhe said "no"\ta\n')
    keys = {
        name: [source_hash(DataSpec(path=name, quoting=how), tmp_path) for how in (None, "standard", "none")]
        for name in ("a.tsv", "b.tsv")
    }
    assert keys["a.tsv"][0] == keys["a.tsv"][1] != keys["a.tsv"][2]
    assert keys["b.tsv"][0] not in keys["b.tsv"][1:]  # as in stores that were made before


def test_bench_reads_the_same_files(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("a.tsv", TSV.encode("utf-16")),
        ("a.json", json.dumps(ROWS).encode()),
    ):
        (tmp_path / name).write_bytes(content)
        assert DataFile(tmp_path / name, label="label").rows() == ROWS
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="a pipe or a device"):
        DataFile.parse(str(tmp_path / "pipe.csv"))


def features(names: list[str], column: str = "label", kind: str = "ClassLabel") -> dict[bytes, bytes]:
    feature: dict[str, Any] = {"names": names, "_type": "ClassLabel"}
    feature = feature if kind == "ClassLabel" else {"feature": feature, "_type": kind}
    info = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, column: feature}}}
    return {b"huggingface": json.dumps(info).encode()}


def as_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path / "a.parquet")


def as_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path / "a.arrow", table.schema) as writer:
        writer.write_table(table)


def as_feather(table: pa.Table, path: Path) -> None:
    feather.write_feather(table, path / "a.feather")


def as_saved(table: pa.Table, path: Path) -> None:
    from datasets import Dataset

    Dataset(table).save_to_disk(path / "a.saved", num_shards=2)


WRITERS: list[Callable[[pa.Table, Path], None]] = [as_parquet, as_arrow, as_feather, as_saved]


def prepared(folder: Path, store: ArtifactStore, role: str = "eval", task: str = "text-classification") -> PreparedData:
    (file,) = folder.glob("a.*")
    spec = DataSpec(path=file.name)
    return prepare_data(spec, role, base=folder, task=get_task(task), store=store, progress=Silent())


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_numbers_have_the_names_that_the_file_gives_them(
    write: Callable[[pa.Table, Path], None], tmp_path: Path, store: ArtifactStore
) -> None:
    table = pa.table({"text": ["good", "bad", "fine"], "label": [0, 1, 0]})
    write(table.replace_schema_metadata(features(["positive", "negative"])), tmp_path)
    data = prepared(tmp_path, store)
    assert data.own_names == ("positive", "negative") and [row["text"] for row in data.rows()] == ["good", "bad", "fine"]
    assert indices_of_labels(data, TASKS[0], ("negative", "positive")) == {"0": 1, "1": 0}
    assert indices_of_labels(data, TASKS[0], ("LABEL_0", "LABEL_1")) == {"0": 0, "1": 1}
    with pytest.raises(DataError, match="the file calls its labels positive, negative, the model pos, neg"):
        indices_of_labels(data, TASKS[0], ("pos", "neg"))


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_tags_have_the_names_that_the_file_gives_them(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    table = pa.table({"tokens": [["Ada", "ran"], ["He", "ran"]], "ner_tags": [[1, 0], [0, 0]]})
    as_parquet(table.replace_schema_metadata(features(["O", "B-person"], "ner_tags", kind)), tmp_path)
    data = prepared(tmp_path, store, task="token-classification")
    assert indices_of_labels(data, get_task("token-classification"), ("B-person", "O")) == {"0": 1, "1": 0}


def test_another_name_in_the_file_is_another_data_set(tmp_path: Path, store: ArtifactStore) -> None:
    table = pa.table({"text": ["good", "bad"], "label": [0, 1]})
    keys = set()
    for metadata in (None, features(["a", "b"]), features(["b", "a"])):
        as_parquet(table.replace_schema_metadata(metadata), tmp_path)
        keys.add(source_hash(DataSpec(path="a.parquet"), tmp_path))
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"dataset_dict.json": {"splits": ["train", "test"]}}, "several splits"),
        ({"state.json": {"_data_files": [{"filename": "../a.arrow"}]}}, "does not name"),
        ({"state.json": {"_data_files": 7}}, "does not name"),
        ({"state.json": {"_data_files": [{"filename": "gone.arrow"}]}}, "does not exist"),
        ({"state.json": {"_data_files": [{"filename": "a"}], "_indices_files": [{"filename": "b"}]}}, "another order"),
        ({"state.json": [1]}, "save_to_disk"),
        ({"other.json": {}}, "is a folder"),
    ],
)
def test_a_folder_that_is_no_saved_data_set_is_refused(files: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.saved").mkdir()
    for name, content in files.items():
        (tmp_path / "a.saved" / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        list(read_rows(DataSpec(path="a.saved"), tmp_path / "a.saved"))
    with pytest.raises(DataError, match=words):
        source_hash(DataSpec(path="a.saved"), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": ' + "[" * 1_000_000, "line 1 is not a JSON object: it is nested more than 50 deep"),
        ("a.jsonl", '{"a": ' * 200_000 + "1" + "}" * 200_000, "line 1 is not a JSON object: it is nested more than 50 deep"),
        ("a.json", "[" * 1_000_000 + "]" * 1_000_000, "line 1 is not a JSON object: it is nested more than 50 deep"),
        ("a.json", "[\n" * 1_000_000, "it is nested more than 50 deep"),
        ("a.jsonl", "{\n" + '"a":\n' * 300_000, "line 1 is not a JSON object"),
        ("a.json", '["a", "b"', "the array is not closed"),
        ("a.json", '[{"text": "a"}] 7', "goes on behind the array"),
        ("a.json", '[{"text": "a"},]', "is not a JSON object"),
        ("a.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}", "holds a number of thousands of digits"),
        ("a.jsonl", '{"text": "a\nb"}', "line 1 is not a JSON object"),
        ("a.csv", ",".join(map(str, range(100_001))) + "\n", "has 100,001 columns"),
        ("a.csv", "a," * 99_999 + "b\n1\n", "two columns `a`"),
        ("a.json", "{\n" + '"paragraphs": ' + '{"a":' * 200_000, "SQuAD|JSON"),
        ("a.csv.gz", None, "unpacks to more than 200 times its size"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_made_to_break_a_reader_is_refused(
    name: str, content: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_open, "SMALL", 1 << 20)
    data = gzip.compress(b"text,label\n" + b"good,positive\n" * 400_000) if content is None else content.encode()
    with pytest.raises(DataError, match=words):
        read(tmp_path, name, data)


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_open, "LONGEST_LINE", 1000)
    for name in ("a.csv", "a.jsonl", "a.conll"):
        with pytest.raises(DataError, match="a line of more than 1,000 characters"):
            read(tmp_path, name, b"{" + b"x" * 3000)


def test_a_table_of_many_columns_is_read_in_linear_time(tmp_path: Path) -> None:
    """Looking for repeated names in each other took hours; it is counted here, because clocks are busy."""
    names = [f"c{index}" for index in range(50_000)]
    content = (",".join(["text", "label", *names]) + "\n" + ",".join(["a", "b"] + ["1"] * 50_000) + "\n").encode()
    (row,) = read(tmp_path, "a.csv", content)
    assert len(row) == 50_002 and row["text"] == "a"


@pytest.mark.parametrize("value", ["1" + "0" * 309, "1e400", "-Infinity", "1e300", "9" * 2000], ids=lambda value: value[:9])
def test_a_label_beyond_all_numbers_is_a_fault_of_its_row(value: str, tmp_path: Path, store: ArtifactStore) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a", "label": 1}}\n{{"text": "b", "label": {value}}}\n')
    with pytest.raises(DataError, match="row 2: `label` is "):
        prepared(tmp_path, store)


def test_dates_beyond_pythons_are_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "when": pa.array([1 << 50], pa.timestamp("ms"))})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="cannot be read as PARQUET"):
        list(read_rows(DataSpec(path="a.parquet"), tmp_path / "a.parquet"))


NESTED = """
import sys
from pathlib import Path
from edgebert.data.readers import read_rows
from edgebert.data.spec import DataSpec
from edgebert.errors import DataError
try:
    list(read_rows(DataSpec(path="a.jsonl"), Path(sys.argv[1])))
except DataError as error:
    print(error.message)
"""


def test_nested_lines_do_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ' + '{"a":' * 1_000_000 + "1" + "}" * 1_000_001 + "\n")
    done = subprocess.run([sys.executable, "-c", NESTED, str(tmp_path / "a.jsonl")], capture_output=True, text=True, check=True)
    assert "line 1 is not a JSON object: it is nested more than 50 deep" in done.stdout
