"""Data that is missing, damaged or of another task: one message with the file, the row and the remedy, nothing left."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from breaks import SQUAD, Case, assert_case, both, cases, evaluation, folder_at, pipe_at, swap

from edgebert.data.readers import read_rows
from edgebert.data.spec import DataSpec
from edgebert.errors import EXIT_ENVIRONMENT

HEAD = "text,label\n"
GOOD = "a good film,positive\na bad film,negative\n"
JSONL = '{"text": "good", "label": "positive"}\n{"text": "bad", "label": "negative"}\n'
LONG = "x" * (10 << 20)


def parquet(rows: int = 100) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["good", "bad"] * (rows // 2), "label": ["positive", "negative"] * (rows // 2)}), buffer)
    return buffer.getvalue()


@cases(
    Case("missing", swap("data/eval.csv", "data/evl.csv"), ("data/evl.csv does not exist", "--set data.eval=FILE")),
    Case("folder", both(folder_at("data/x.csv"), swap("eval.csv", "x.csv")), ("data/x.csv is a folder", "Name a file in it")),
    Case("file of nobody", swap("data/eval.csv", "~nobody-of-that-name/x.csv"), ("~nobody-of-that-name", "not a path")),
    Case("endless name", swap("data/eval.csv", "x" * 5000), ("xxx...", "too long")),
    Case("empty", evaluation(""), ("data/eval.csv is empty", "--set data.eval=FILE")),
    Case("blank lines", evaluation("\n\n\n"), ("data/eval.csv has no header line", "text,label")),
    Case("header only", evaluation(HEAD), ("data.eval (eval.csv) has no rows", "Name a file with rows")),
    Case("other column", evaluation("sentence,label\n" + GOOD), ("no column `text`; it has `sentence`, `label`", "columns:")),
    Case("unknown left-hand column", evaluation(HEAD + GOOD, columns={"txt": "text"}), ("`txt` is no column", "`text_pair`")),
    Case("unknown right-hand column", evaluation(HEAD + GOOD, columns={"text": "txt"}), ("no column `txt`; it has `text`",)),
    Case(
        "other separator",
        evaluation("text;label\ngood;positive\n"),
        ("no column `text`; it has `text;label`", 'delimiter: ";"'),
    ),
    Case("column twice", evaluation("text,text,label\na,b,positive\n"), ("two columns `text`", "Rename one")),
    Case("header too short", evaluation("text,label\n1,good,positive\n"), ("first row has 3 fields", "header line names 2")),
    Case("label not in the model", evaluation(HEAD + GOOD + "x,meh\n"), ("data.eval", "'meh' (1 rows)", "task.labels")),
    Case("number not in the model", evaluation(HEAD + "a,0\nb,7\n"), ("'7' (1 rows)", "negative, positive")),
    Case("label of an odd digit", evaluation(HEAD + "a,0\nb,\u00b2\n"), ("'\u00b2' (1 rows)", "negative, positive")),
    Case("nan text", evaluation(HEAD + GOOD + "nan,positive\n"), ("row 3: `text` is 'nan'", "pandas", "Correct or remove")),
    Case("nan label", evaluation(HEAD + GOOD + "fine,nan\n"), ("row 3: `label` is 'nan'", "pandas")),
    Case("empty text", evaluation(HEAD + GOOD + ",positive\n"), ("row 3: `text` is empty",)),
    Case("empty label", evaluation(HEAD + GOOD + "fine,\n"), ("row 3: `label` is empty",)),
    Case("many faults", evaluation(HEAD + ",x\n" * 9), ("5 unusable rows (and perhaps more)", "row 1", "row 5")),
    Case("one label only", evaluation(HEAD + "a,positive\nb,positive\n"), ("only one label: 'positive'", "judge")),
    Case("10 MB line", evaluation(HEAD + GOOD + f"{LONG},positive\n"), ("row 3", "10,485,760 characters", "never closes")),
    Case("10 MB header", evaluation(f"{LONG},label\n{GOOD}"), ("data/eval.csv has no header line",)),
    Case(
        "latin-1",
        evaluation(HEAD.encode() + b"caf\xe9,positive\n"),
        ("not UTF-8 text, near line 1 (byte 0xe9)", "iconv", "windows-1252", "gb18030"),
    ),
    Case("UTF-16 without a mark", evaluation((HEAD + GOOD).encode("utf-16le")), ("holds NUL bytes", "iconv -f utf-16le")),
    Case("UTF-16 cut", evaluation((HEAD + GOOD).encode("utf-16")[:-1]), ("data/eval.csv is not UTF-16 text",)),
    Case("NUL bytes", evaluation(HEAD + "a\0b,positive\n"), ("data/eval.csv holds NUL bytes near line", "`format:`")),
    Case("open quote", evaluation(HEAD + GOOD + '"good,positive\nbad,negative\n'), ("EOF inside string", "quoting: none")),
    Case("row too long", evaluation(HEAD + GOOD + "a,b,positive\n"), ("Expected 2 fields in line 4, saw 3", "separator")),
    Case("row too short", evaluation(HEAD + GOOD + "lonely\n"), ("row 3: `label` is empty",)),
    Case("line break as delimiter", evaluation(HEAD + GOOD, delimiter="\n"), ("eval.csv cannot be read as CSV", "separator")),
    Case("unknown ending", evaluation(HEAD + GOOD, "eval.dat"), ("the ending '.dat'", "Add `format:`", "csv, jsonl")),
    Case("Excel", evaluation("x", "eval.xlsx"), ("the ending '.xlsx'", "Save its rows as CSV")),
    Case("pickle", evaluation("x", "eval.pkl"), ("the ending '.pkl'", "could run code", "df.to_parquet")),
    Case("archive", evaluation("x", "eval.csv.zip"), ("the ending '.zip'", "Unpack it")),
    Case("packed in secret", evaluation(gzip.compress(b"x")), ("is packed with gzip, not text", "the ending .gz")),
    Case("Excel named CSV", evaluation(b"PK\x03\x04 and so on"), ("a ZIP archive or an Excel file",)),
    Case("Parquet named CSV", evaluation(parquet()), ("is a Parquet file", "format: parquet")),
    Case("pointer", evaluation("version https://git-lfs.github.com/spec/v1\n"), ("a pointer of Git LFS", "git lfs pull")),
    Case("web page", evaluation("<!doctype html>\n<html>"), ("is a web page", "raw file")),
    Case("not packed", evaluation(HEAD + GOOD, "eval.csv.gz"), ("eval.csv.gz cannot be unpacked", "Not a gzipped file")),
    Case("packed and cut", evaluation(gzip.compress(HEAD.encode() * 9)[:-9], "e.csv.gz"), ("e.csv.gz cannot be unpacked",)),
    Case("packed Parquet", evaluation(gzip.compress(parquet()), "e.parquet.gz"), ("is packed", "gunzip")),
    Case("pipe", pipe_at("data/eval.csv"), ("data/eval.csv is a pipe or a device", "write the rows into a file")),
    Case("device", swap("data/eval.csv", "/dev/zero"), ("/dev/zero is a pipe or a device",)),
    Case("no header", evaluation("a good film,positive\na bad film,negative\n"), ("no column `text`", "header: none")),
    Case("no header, same twice", evaluation("good,good\nbad,bad\n"), ("two columns `good`", "header: none")),
    Case("numbered columns", evaluation(GOOD, header="none"), ("no column `text`; it has `1`, `2`", "columns: {text: 1}")),
    Case("table in an object", evaluation('{"text": {"0": "a"}, "label": {"0": "b"}}', "e.json"), ("a whole table", "records")),
    Case("data in an object", evaluation('{"data": [{"text": "a", "label": "b"}]}', "e.json"), ("a whole table", "records")),
    Case("no ending", evaluation(HEAD + GOOD, "eval"), ("the ending ''", "Add `format:`")),
    Case("other format", evaluation(HEAD + GOOD, format="jsonl"), ("eval.csv cannot be read as JSON", "one JSON object")),
    Case("JSONL null", evaluation(JSONL + '{"text": null, "label": "positive"}', "e.jsonl"), ("row 3: `text` is missing",)),
    Case("JSONL NaN", evaluation(JSONL + '{"text": NaN, "label": "positive"}', "e.jsonl"), ("row 3: `text` is missing",)),
    Case(
        "JSONL number",
        evaluation(JSONL + '{"text": 5, "label": "positive"}', "e.jsonl"),
        ("row 3: `text` is not text but int",),
    ),
    Case("JSONL object", evaluation('{"text": {"a": 1}, "label": 1}', "e.jsonl"), ("row 1: `text` is not text but dict",)),
    Case("JSONL without a key", evaluation(JSONL + '{"text": "fine"}', "e.jsonl"), ("row 3: `label` is missing",)),
    Case("JSONL cut short", evaluation(JSONL + '{"text": "fine', "e.jsonl"), ("e.jsonl cannot be read as JSON", "line 3")),
    Case("JSONL lists", evaluation('["a", 1]\n["b", 0]\n', "e.jsonl"), ("e.jsonl cannot be read as JSON", "one JSON object")),
    Case("JSONL surrogate", evaluation(JSONL + '{"text": "\\ud800"}', "e.jsonl"), ("cannot be read as JSON", "surrogate")),
    Case("JSONL 10 MB line", evaluation(JSONL + f'{{"text": "{LONG}", "label": "0"}}', "e.jsonl"), ("10,485,760 characters",)),
    Case(
        "Parquet cut short", evaluation(parquet()[:-20], "e.parquet"), ("e.parquet cannot be read as PARQUET", "partial copy")
    ),
    Case("Parquet that is text", evaluation("hello", "e.parquet"), ("e.parquet cannot be read as PARQUET", "partial copy")),
    Case("Parquet without rows", evaluation(parquet(0), "e.parquet"), ("data.eval (e.parquet) has no rows",)),
    Case("JSON cut short", evaluation((SQUAD % "")[:-2], "e.json"), ("e.json is not valid JSON", "premature EOF")),
    Case("SQuAD without a question", evaluation(SQUAD % '{"id": 1}', "e.json"), ("not in SQuAD's format", "lacks 'question'")),
    Case(
        "SQuAD of a wrong shape", evaluation('{"data": ["paragraphs"]}', "e.json", format="squad"), ("not in SQuAD's format",)
    ),
    Case(
        "SQuAD with a bad place",
        evaluation(SQUAD % '{"id": 1, "question": "q", "answers": [{"text": "t", "answer_start": "z"}]}', "e.json"),
        ("not in SQuAD's format", "'z'"),
    ),
    Case("SQuAD for this task", evaluation(SQUAD % '{"id": 1, "question": "q"}', "e.json"), ("no column `text`", "`context`")),
    Case("CoNLL without a tag", evaluation("word O\nword\n", "e.conll"), ("e.conll, line 2: needs a word and a tag", "'word'")),
    Case(
        "calibration smaller than asked",
        both(swap("[dynamic]", "[static]"), swap("samples: 8", "samples: 80")),
        ("data.calibration (train.csv) asks for 80 samples, but has 48 rows", "data.calibration.samples to 48 or fewer"),
    ),
    Case(
        "Hub data set without a network",
        swap("data/eval.csv", "{hub: nyu-mll/glue, config: sst2}"),
        ("The Hub data set nyu-mll/glue could not be read", "Without one, give a file: --set data.eval=FILE"),
        code=EXIT_ENVIRONMENT,
    ),
)
def test_compress_refuses_data(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


@pytest.mark.parametrize(
    ("content", "spec"),
    [
        (",text,label\n0,a good film,positive\n1,a bad film,negative\n", {}),
        ("text\u00a7label\na good film\u00a7positive\na bad film\u00a7negative\n", {"delimiter": "\u00a7"}),
        ("\n\ntext,label\n\na good film,positive\n\na bad film,negative\n", {}),
        ("text,label\ra good film,positive\ra bad film,negative\r", {}),
    ],
    ids=["index of pandas", "wide delimiter", "blank lines", "carriage returns"],
)
def test_csv_that_only_looks_broken_is_read(content: str, spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text(content, encoding="utf-8", newline="")
    rows = read_rows(DataSpec(path="odd.csv", **spec), tmp_path / "odd.csv")
    assert [(row["text"], row["label"]) for row in rows] == [("a good film", "positive"), ("a bad film", "negative")]
