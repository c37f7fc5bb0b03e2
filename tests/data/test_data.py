"""Data sets: the same rows from every format, checked row by row, in memory that does not grow with the file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_table

from edgebert.compress.recipe import CalibrationSpec, DataSpec
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.labels import indices_of_labels, label_notes
from edgebert.data.prepared import PreparedData, data_key, prepare_data, source_hash, with_split
from edgebert.data.readers import read_conll, read_rows, read_squad
from edgebert.data.text_files import read_json_lines
from edgebert.errors import DataError
from edgebert.tasks import TASKS

ROWS = [
    {"text": "a good film", "label": "positive"},
    {"text": 'he said "no", twice', "label": "negative"},
    {"text": '"quoted from end to end"', "label": "positive"},
    {"text": "  spaces around  ", "label": "negative"},
    {"text": "café, naïve, 漢字 🙂", "label": "positive"},
    {"text": "NA", "label": "negative"},
    {"text": "None", "label": "positive"},
    {"text": "1.50", "label": "negative"},
    {"text": "true", "label": "positive"},
    {"text": "it's; a | semicolon \\ backslash", "label": "negative"},
]


def as_csv(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    return write_table(folder / "data.csv", rows)


def as_tsv(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    (folder / "data.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "data.tsv"


def as_jsonl(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "data.jsonl"


def as_parquet(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "data.parquet")
    return folder / "data.parquet"


WRITERS: dict[str, Callable[[Sequence[dict[str, Any]], Path], Path]] = {
    "csv": as_csv,
    "tsv": as_tsv,
    "jsonl": as_jsonl,
    "parquet": as_parquet,
}
every_format = pytest.mark.parametrize("kind", WRITERS)
TEXT_FORMATS = ["csv", "tsv", "jsonl"]


def prepared(path: Path, store: ArtifactStore, role: str = "train", **spec: Any) -> PreparedData:
    kind = CalibrationSpec if role == "calibration" else DataSpec
    return prepare_data(kind(path=path.name, **spec), role, base=path.parent, task=TASKS[0], store=store, progress=Silent())


@every_format
def test_rows_are_the_same_from_every_format(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    data = prepared(WRITERS[kind](ROWS, tmp_path), store)
    assert data.rows() == ROWS
    assert len(data) == len(ROWS)
    assert data.labels == {"negative": 5, "positive": 5}


def test_content_of_the_prepared_set_is_the_same_from_every_format(tmp_path: Path, store: ArtifactStore) -> None:
    assert len({prepared(write(ROWS, tmp_path), store).artifact.sha256 for write in WRITERS.values()}) == 1


@pytest.mark.parametrize("kind", TEXT_FORMATS)
def test_byte_order_mark_is_no_part_of_the_first_column(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    path = WRITERS[kind](ROWS, tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert prepared(path, store).rows() == ROWS


@pytest.mark.parametrize("kind", TEXT_FORMATS)
def test_carriage_returns_are_no_part_of_the_last_column(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    path = WRITERS[kind](ROWS, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert prepared(path, store).rows() == ROWS


@pytest.mark.parametrize("kind", TEXT_FORMATS)
def test_last_row_is_read_when_the_file_does_not_end_with_a_newline(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    path = WRITERS[kind](ROWS, tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert prepared(path, store).rows() == ROWS


def test_csv_keeps_line_breaks_and_doubled_quotes_inside_quotes(tmp_path: Path, store: ArtifactStore) -> None:
    rows = [{"text": "two\nlines", "label": "a"}, {"text": 'a "quoted" comma, and ""', "label": "b"}]
    assert prepared(as_csv(rows, tmp_path), store).rows() == rows


def test_tsv_reads_quotes_as_ordinary_characters_unless_told_otherwise(tmp_path: Path, store: ArtifactStore) -> None:
    (tmp_path / "data.tsv").write_text('text\tlabel\n"unclosed\ta\n"closed"\tb\n')
    assert [row["text"] for row in prepared(tmp_path / "data.tsv", store).rows()] == ['"unclosed', '"closed"']
    (tmp_path / "data.tsv").write_text('text\tlabel\n"one\ttab"\ta\n"closed"\tb\n')
    rows = prepared(tmp_path / "data.tsv", store, quoting="standard").rows()
    assert [row["text"] for row in rows] == ["one\ttab", "closed"]


def test_delimiter_and_format_of_the_recipe_win_over_the_ending(tmp_path: Path, store: ArtifactStore) -> None:
    (tmp_path / "data.export").write_text("text;label\na, b;x\nc;y\n")
    data = prepared(tmp_path / "data.export", store, format="csv", delimiter=";")
    assert data.rows() == [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}]


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        *((kind, labels) for kind in WRITERS for labels in [(0, 1), ("0", "1"), (" 0", "1 "), ("0.0", "1.0"), (0.0, 1.0)]),
    ],
)
def test_labels_are_the_same_text_whether_the_file_holds_numbers_or_text(
    kind: str, labels: tuple[Any, Any], tmp_path: Path, store: ArtifactStore
) -> None:
    rows = [{"text": "bad", "label": labels[0]}, {"text": "good", "label": labels[1]}]
    data = prepared(WRITERS[kind](rows, tmp_path), store)
    assert [row["label"] for row in data.rows()] == ["0", "1"]
    assert data.labels == {"0": 1, "1": 1}


@every_format
@pytest.mark.parametrize("labels", [(False, True), ("False", "True"), (" False", "True ")])
def test_truth_is_the_same_label_from_every_format(
    kind: str, labels: tuple[Any, Any], tmp_path: Path, store: ArtifactStore
) -> None:
    data = prepared(WRITERS[kind]([{"text": "bad", "label": labels[0]}, {"text": "good", "label": labels[1]}], tmp_path), store)
    assert [row["label"] for row in data.rows()] == ["False", "True"]
    assert indices_of_labels(data, TASKS[0], ("negative", "positive")) == {"False": 0, "True": 1}
    assert indices_of_labels(data, TASKS[0], ("true", "false")) == {"False": 1, "True": 0}


@every_format
def test_columns_are_found_under_the_names_that_the_recipe_gives(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    rows = [{"id": "7", "premise": "a", "other": "b", "gold": "x"}, {"id": "8", "premise": "c", "other": "d", "gold": "y"}]
    columns = {"text": "premise", "text_pair": "other", "label": "gold"}
    data = prepared(WRITERS[kind](rows, tmp_path), store, columns=columns)
    assert data.rows() == [{"text": "a", "text_pair": "b", "label": "x"}, {"text": "c", "text_pair": "d", "label": "y"}]


@every_format
def test_calibration_needs_no_labels(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    path = WRITERS[kind]([{"text": row["text"]} for row in ROWS], tmp_path)
    data = prepared(path, store, "calibration", samples=3)
    assert data.rows() == [{"text": row["text"]} for row in ROWS]
    assert data.labels == {}


@every_format
def test_limit_draws_rows_by_the_seed_from_the_whole_file(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    rows = [{"text": f"text {index:03d}", "label": f"class {index // 30}"} for index in range(300)]  # sorted by class
    path = WRITERS[kind](rows, tmp_path)
    drawn = prepared(path, store, limit=60)
    assert len(drawn) == 60 and len(drawn.labels) == 10
    assert drawn.rows() == [row for row in rows if row in drawn.rows()]
    assert prepared(path, store, limit=60).artifact.key == drawn.artifact.key
    assert drawn_with(path, store, seed=1).rows() != drawn.rows()
    assert prepared(path, store, limit=300).rows() == prepared(path, store, limit=900).rows() == rows


def drawn_with(path: Path, store: ArtifactStore, seed: int) -> PreparedData:
    spec = DataSpec(path=path.name, limit=60)
    return prepare_data(spec, "train", base=path.parent, task=TASKS[0], store=store, progress=Silent(), seed=seed)


def test_labels_that_no_drawn_row_has_are_named(tmp_path: Path, store: ArtifactStore) -> None:
    rows = [{"text": f"text {index}", "label": f"class {index:02d}"} for index in range(50)]
    data = prepared(as_csv(rows, tmp_path), store, limit=8)
    assert {*data.left_out} == {row["label"] for row in rows} - {*data.labels} and len(data.left_out) == 42
    names = tuple(row["label"] for row in rows)
    notes = label_notes(data, TASKS[0], names)
    assert any("no row has 42 of the model's 50 labels" in note for note in notes)
    assert any("the 8 rows that `limit` drew lack 42 of the file's labels" in note for note in notes)


@every_format
def test_a_row_that_limit_did_not_draw_may_be_unusable(kind: str, tmp_path: Path, store: ArtifactStore) -> None:
    rows = [*ROWS, {"text": "   ", "label": "positive"}]
    drawn = {len(prepared(WRITERS[kind](rows, tmp_path), store, limit=5)) for _ in range(1)}
    assert drawn == {5}
    with pytest.raises(DataError, match="row 11: `text` is empty"):
        prepared(WRITERS[kind](rows, tmp_path), store)


def test_set_of_more_than_one_block_keeps_every_row_in_order(tmp_path: Path, store: ArtifactStore) -> None:
    rows = [{"text": f"number {index}", "label": str(index % 3)} for index in range(2500)]
    data = prepared(as_csv(rows, tmp_path), store)
    assert data.rows() == rows
    assert data.rows([2499, 0, 1000]) == [rows[2499], rows[0], rows[1000]]


def test_sample_is_decided_by_the_seed_and_repeats_no_row(tmp_path: Path, store: ArtifactStore) -> None:
    rows = [{"text": f"{index:04d}", "label": str(index % 2)} for index in range(300)]
    data = prepared(as_csv(rows, tmp_path), store)
    first = data.sample(50, seed=1)
    assert first == data.sample(50, seed=1)
    assert first != data.sample(50, seed=2)
    assert len({row["text"] for row in first}) == 50
    assert first == sorted(first, key=lambda row: row["text"])
    assert data.sample(300, seed=3) == rows


def test_prepared_set_is_found_in_the_store_when_nothing_changed(tmp_path: Path, store: ArtifactStore) -> None:
    path = as_csv(ROWS, tmp_path)
    first = prepared(path, store).artifact
    assert prepared(path, store).artifact.key == first.key
    assert len(store.artifacts()) == 1
    path.write_text(path.read_text() + "one more,positive\n")
    assert prepared(path, store).artifact.key != first.key


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 3},
        {"columns": {"text": "label"}},
        {"delimiter": ";"},
        {"quoting": "none"},
        {"format": "tsv"},
        {"header": "none"},
    ],
)
def test_source_hash_changes_with_everything_that_changes_the_rows(change: dict[str, Any], tmp_path: Path) -> None:
    as_csv(ROWS, tmp_path)
    assert source_hash(DataSpec(path="data.csv"), tmp_path) != source_hash(DataSpec(path="data.csv", **change), tmp_path)


def test_source_hash_does_not_change_when_the_file_moves(tmp_path: Path) -> None:
    as_csv(ROWS, tmp_path)
    before = source_hash(DataSpec(path="data.csv"), tmp_path)
    (tmp_path / "data.csv").rename(tmp_path / "moved.csv")
    assert source_hash(DataSpec(path="moved.csv"), tmp_path) == before


def test_source_hash_of_calibration_does_not_change_with_the_number_of_samples(tmp_path: Path) -> None:
    as_csv(ROWS, tmp_path)
    few, many = (CalibrationSpec(path="data.csv", samples=count) for count in (2, 9))
    assert source_hash(few, tmp_path) == source_hash(many, tmp_path)


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Rivers",
            "paragraphs": [
                {
                    "context": "The Rhine flows north. It is 1,230 km long.",
                    "qas": [
                        {"id": "q1", "question": "Where to?", "answers": [{"text": "north", "answer_start": 16}]},
                        {"id": "q2", "question": "Who owns it?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "Second.", "qas": [{"id": 3, "question": "Which?"}]},
            ],
        },
        {"paragraphs": [{"context": "Third.", "qas": [{"id": "q4", "question": "Last?", "answers": []}]}]},
    ],
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_read_squad_gives_one_row_for_each_question(mark: bytes, tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_bytes(mark + json.dumps(SQUAD).encode())
    rows = list(read_squad(tmp_path / "dev.json"))
    assert [row["id"] for row in rows] == ["q1", "q2", "3", "q4"]
    assert rows[0] == {
        "id": "q1",
        "title": "Rivers",
        "context": "The Rhine flows north. It is 1,230 km long.",
        "question": "Where to?",
        "answers": {"text": ["north"], "answer_start": [16]},
    }
    assert rows[1]["answers"] == rows[2]["answers"] == {"text": [], "answer_start": []}
    assert rows[0]["context"][16:].startswith(rows[0]["answers"]["text"][0])


CONLL = """\
-DOCSTART- -X- O O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER


. . O O"""


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_read_conll_gives_one_row_for_each_sentence(mark: bytes, newline: str, tmp_path: Path) -> None:
    (tmp_path / "dev.conll").write_bytes(mark + CONLL.replace("\n", newline).encode())
    assert list(read_conll(tmp_path / "dev.conll")) == [
        {"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"words": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]},
        {"words": ["."], "tags": ["O"]},
    ]


@pytest.mark.parametrize(
    ("name", "contents", "first"),
    [
        ("dev.json", json.dumps(SQUAD), "id"),
        ("dev.json", '{"text": "a", "label": "b"}\n', "text"),
        ("dev.bio", "a O\n\nb O\n", "words"),
        ("dev.txt", "text\tlabel\na\tb\n", "text"),
    ],
    ids=["SQuAD", "JSON Lines", "CoNLL", "TSV"],
)
def test_read_rows_picks_the_reader_by_the_ending_and_the_content(name: str, contents: str, first: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(contents)
    assert next(iter(next(read_rows(DataSpec(path=name), tmp_path / name)))) == first


TEXT_OF_2_KB = "a sentence of a few words, with a comma; " * 50
ARTICLE = {"paragraphs": [{"context": TEXT_OF_2_KB, "qas": [{"id": "i", "question": "q", "answers": []}]}]}
READING = """
import sys
from pathlib import Path
from edgebert.core.store import ArtifactStore
from edgebert.data.prepared import prepare_data
from edgebert.measure.machine.memory import peak_rss
from edgebert.core.progress import Silent
from edgebert.data.readers import read_rows
from edgebert.data.spec import DataSpec
from edgebert.tasks import TASKS
path = Path(sys.argv[1])
spec = DataSpec(path=path.name)
if path.suffix in (".json", ".conll"):
    count = sum(1 for _ in read_rows(spec, path))
else:
    store = ArtifactStore(path.parent / "store")
    store.prepare()
    count = len(prepare_data(spec, "train", base=path.parent, task=TASKS[0], store=store, progress=Silent()))
print(count, peak_rss())
"""


def write_large(kind: str, folder: Path, rows: int) -> Path:
    """A file of `rows` times 2 kB."""
    folder.mkdir()
    if kind == "conll":
        (folder / "data.conll").write_text(("word O\n" * 300 + "\n") * rows)
        return folder / "data.conll"
    if kind == "squad":
        (folder / "data.json").write_text('{"data": [' + ", ".join([json.dumps(ARTICLE)] * rows) + "]}")
        return folder / "data.json"
    if kind == "parquet":
        schema = pa.schema([("text", pa.string()), ("label", pa.string())])
        with pq.ParquetWriter(folder / "data.parquet", schema, compression="none", use_dictionary=False) as writer:
            for start in range(0, rows, 1000):
                block = [{"text": f"{start + index}{TEXT_OF_2_KB}", "label": str(index % 2)} for index in range(1000)]
                writer.write_table(pa.Table.from_pylist(block, schema), row_group_size=1000)
        return folder / "data.parquet"
    return WRITERS[kind]([{"text": TEXT_OF_2_KB, "label": str(index % 2)} for index in range(rows)], folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "squad", "conll"])
def test_memory_does_not_grow_with_the_file(kind: str, tmp_path: Path) -> None:
    peaks = []
    for rows in (4_000, 40_000):
        path = write_large(kind, tmp_path / str(rows), rows)
        done = subprocess.run([sys.executable, "-c", READING, str(path)], capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.split())
        assert count == rows
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 0.6 * 22_000 * 4096, "a file of 96 MB costs much more memory than one of 8 MB"


def test_train_and_eval_of_one_hub_data_set_are_two_sets() -> None:
    spec = DataSpec(hub="org/name")
    keys = {data_key(with_split(spec, role), Path(), TASKS[0], labelled=True) for role in ("train", "eval")}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"text": "a"}\n\n{"text": "b"}\n', ["a", "b"]),
        ('{\n  "text": "a"\n}\n{"text":\n"b"}', ["a", "b"]),
        ('\n [\n{"text": "a"}, "b"]\n', ["a", "b"]),
    ],
    ids=["a line each", "over several lines", "an array"],
)
def test_json_objects_are_read_however_they_are_laid_out(tmp_path: Path, text: str, rows: list[str]) -> None:
    (tmp_path / "data.jsonl").write_text(text)
    assert [row["text"] for row in read_json_lines(tmp_path / "data.jsonl")] == rows


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"text": "a"}\n{"text": "b", "text": "c"}\n', "line 2 has the key `text` twice"),
        ('{"text": "a"}\n{"text": \n', "line 2 is not a JSON object"),
        ('{"text": "a"} {"text": "b"}\n', "line 1 is not a JSON object"),
    ],
    ids=["a key twice", "cut", "two on a line"],
)
def test_json_that_could_mean_anything_is_refused_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "data.jsonl").write_text(text)
    with pytest.raises(DataError, match=fault):
        list(read_json_lines(tmp_path / "data.jsonl"))


def test_a_column_that_row_1_lacks_is_never_dropped_in_silence(tmp_path: Path, store: ArtifactStore) -> None:
    lines = [{"text": "a", "label": "positive"}, {"text": "b", "text_pair": "c", "label": "negative"}]
    as_jsonl(lines, tmp_path)
    with pytest.raises(DataError, match="row 2: `text_pair` is there, but row 1 has no such column"):
        prepare_data(DataSpec(path="data.jsonl"), "train", base=tmp_path, task=TASKS[0], store=store, progress=Silent())
