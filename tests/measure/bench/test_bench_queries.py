"""What is asked: texts of any file format, lengths as asked, one hash for one list of questions, faults that name the line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebert.core.files import sentences
from edgebert.core.progress import Silent
from edgebert.errors import DataError, EdgebertError, InputError
from edgebert.measure.bench import data_file
from edgebert.measure.bench.alike import asked_like_the_bundle
from edgebert.measure.bench.data_file import MOST_ROWS, DataFile
from edgebert.measure.bench.models import BenchModel, ModelRequest, find_models
from edgebert.measure.bench.out_file import command_line
from edgebert.measure.bench.probe_worker import Probe
from edgebert.measure.bench.queries import Asked, Lengths, QuerySource, all_lengths, parse_lengths
from edgebert.measure.bench.run import _job
from edgebert.measure.bench.sweep import BenchOptions, Planned
from edgebert.measure.latency.job import RoundJob
from edgebert.report.rounds import Setting
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task

TEXTS = ["a good film", 'she said "not very good", twice', "line with \u2028 a strange break", "awful"]
LABELS = ["positive", "negative", "negative", "negative"]


@pytest.fixture(scope="module")
def bench_model(finished: Path) -> BenchModel:
    """A variant of the finished bundle."""
    (found,) = find_models(str(finished / "runs" / "recipe"), ModelRequest(("onnxruntime/fp32",)), Silent())
    return found


def as_csv(rows: list[dict[str, str]]) -> str:
    quoted = [[f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row.values()] for row in rows]
    return "\n".join([",".join(rows[0]), *map(",".join, quoted)]) + "\n"


def as_tsv(rows: list[dict[str, str]]) -> str:
    return "\n".join(["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]) + "\n"


def as_jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


WRITERS: dict[str, Callable[[list[dict[str, str]]], str]] = {"csv": as_csv, "tsv": as_tsv, "jsonl": as_jsonl}
ROWS = [{"id": "7", "text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_the_same_texts_are_read_from_every_format(tmp_path: Path, ending: str, mark: str) -> None:
    file = tmp_path / f"data.{ending}"
    file.write_text(mark + WRITERS[ending](ROWS), encoding="utf-8")
    assert [row["text"] for row in DataFile.parse(str(file)).rows()] == TEXTS
    labelled = DataFile.parse(f"{file}:text", "label").rows()
    assert [(row["text"], row["label"]) for row in labelled] == list(zip(TEXTS, LABELS, strict=True))
    plain = tmp_path / "data.txt"
    plain.write_text(mark + "\r\n".join(TEXTS) + "\n\n", encoding="utf-8", newline="")
    assert [row["text"] for row in DataFile.parse(str(plain)).rows()] == TEXTS


def test_columns_are_chosen_by_name_and_two_make_a_pair(tmp_path: Path) -> None:
    file = tmp_path / "a:b.csv"  # a colon in the name of a file that is there is no column
    file.write_text("x,y,text\n1,2,3\n")
    assert DataFile.parse(str(file)).rows() == [{"text": "3"}]
    assert DataFile.parse(f"{file}:x").rows() == [{"text": "1"}]
    assert DataFile.parse(f"{file}:y,x").rows() == [{"text": "2", "text_pair": "1"}]
    (tmp_path / "pairs.txt").write_text("one\ttwo\n")
    assert DataFile.parse(str(tmp_path / "pairs.txt")).rows() == [{"text": "one", "text_pair": "two"}]
    (tmp_path / "pairs.tsv").write_text("text_pair\ttext\nsecond\tfirst\n")
    assert DataFile.parse(str(tmp_path / "pairs.tsv")).rows() == [{"text": "first", "text_pair": "second"}]


FAULTS = [
    ("d.csv", "text\n", "", "has no rows"),
    ("d.csv", "", "", "d.csv is empty"),
    ("d.csv", "text,text\na,b\n", "", "two columns `text`"),
    ("d.csv", "sentence,n\na,1\n", "", "has no column `text`; it has `sentence`, `n`"),
    ("d.csv", 'text\nfine\n" "\n', "", "row 2: `text` is empty"),
    ("d.csv", "text,n\nshort\n", ":n", "row 1: `n` is empty"),
    ("d.csv", 'text\n"a', "", "a quote never closes"),
    ("d.csv", "text\na\nb,c\n", "", "Expected 1 fields in line 3, saw 2"),
    ("d.csv", "a,b,c\n1,2,3\n", ":a,b,c", "--data names 3 columns"),
    ("d.jsonl", '{"text": "a"}\nnot json\n', "", "line 2 is not a JSON object"),
    ("d.jsonl", "[1]\n", "", "line 1 is not a JSON object"),
    ("d.jsonl", '{"text": 5}\n', "", "row 1: `text` is not text but int"),
    ("d.jsonl", "[" * 100_000, "", "line 1 is not a JSON object"),
    ("d.txt", " \n\n", "", "has no rows"),
    ("d.txt", "a\tb\tc\n", "", "3 parts between tabs"),
    ("d.txt", "a\n", ":text", "has no columns"),
    ("d.xlsx", "a\n", "", "the ending says nothing"),
    ("d.csv", "text\n\0\n", "", "NUL bytes"),
]


@pytest.mark.parametrize(("name", "content", "columns", "message"), FAULTS)
def test_a_fault_of_the_data_names_its_place(tmp_path: Path, name: str, content: str, columns: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        DataFile.parse(f"{tmp_path / name}{columns}").rows()
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_bytes(b"gr\xfc\xdfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        DataFile.parse(str(tmp_path / "d.txt")).rows()


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_lengths_are_read_as_they_are_written(values: list[int]) -> None:
    found = parse_lengths(",".join(map(str, values)))
    assert [item.values for item in found] == [(value,) for value in values]
    assert [item.name for item in found] == [str(value) for value in values]
    assert parse_lengths("data, 16") == [Lengths("data"), Lengths("16", (16,))]


@pytest.mark.parametrize("text", ["", "0", "-3", "1.5", "16,", "many", "99999999", "data32"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a length"):
        parse_lengths(text)


def test_a_log_has_one_length_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("12\r\n\n7\n")
    assert parse_lengths(f"log:{log}") == [Lengths("log-log", (12, 7), log)]
    for content, message in (("", "is empty"), ("\n\n", "has no lengths"), ("5\nfive\n", "line 2: 'five'"), ("0\n", "line 1")):
        log.write_text(content)
        with pytest.raises(DataError, match=message):
            parse_lengths(f"log:{log}")
    with pytest.raises(DataError, match="There is no log"):
        parse_lengths(f"log:{tmp_path / 'absent'}")


def test_no_two_logs_have_one_name(tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("a b.txt", "a_b.log", "other.txt")]
    for index, log in enumerate(logs):
        log.write_text(f"{index + 1}\n")
    found = all_lengths([*(f"log:{log}" for log in logs), f"log:{logs[0]}", "data,8", "8"])
    assert [(item.name, item.values) for item in found] == [
        ("log-a_b", (1,)),
        ("log-a_b-2", (2,)),
        ("log-other", (3,)),
        ("data", ()),
        ("8", (8,)),
    ]
    names = [setting.name for setting, _ in BenchOptions(lengths=found).settings()]
    assert len(set(names)) == len(names) == 5


def test_names_of_settings_tell_rates_apart() -> None:
    rates = (1e6, 1e6 + 0.5, 0.1, 50.0)
    names = [setting.name for setting, _ in BenchOptions(scenarios=("server",), rates=rates).settings()]
    assert len(set(names)) == 4 and names[-1] == "server-50/s"


def test_more_than_is_read_is_said(tmp_path: Path) -> None:
    for count in (MOST_ROWS, MOST_ROWS + 1):
        (tmp_path / "many.txt").write_text("7\n" * count)
        (log,) = parse_lengths(f"log:{tmp_path / 'many.txt'}")
        data = DataFile(tmp_path / "many.txt")
        data_file._rows_of.cache_clear()
        assert len(data.rows()) == len(log.values) == MOST_ROWS
        assert data.is_cut() == log.is_cut == (count > MOST_ROWS)


def test_one_list_of_questions_has_one_hash_whoever_is_asked(bench_model: BenchModel, tmp_path: Path) -> None:
    asked = QuerySource(None, 0).ask(bench_model, Lengths("data"), warmup=2, timed=5)
    assert len(asked.rows) == 7 and asked.is_text
    assert {row["text"] for row in asked.rows} <= set(sentences())
    other = replace(bench_model, name="other", max_length=8, labels=("x", "y"), checked_at=None)
    again = QuerySource(None, 0).ask(other, Lengths("data"), warmup=2, timed=5)
    assert again.sha256 == asked.sha256
    assert max(again.lengths) <= 8 < max(asked.lengths)
    (tmp_path / "same.txt").write_text("\n".join(sentences()) + "\n")
    assert (
        QuerySource(DataFile(tmp_path / "same.txt"), 0).ask(bench_model, Lengths("data"), warmup=2, timed=5).sha256
        == asked.sha256
    )
    different = [
        QuerySource(None, 1).ask(bench_model, Lengths("data"), warmup=2, timed=5),
        QuerySource(None, 0).ask(bench_model, Lengths("data"), warmup=2, timed=4),
        QuerySource(None, 0).ask(bench_model, Lengths("data"), warmup=3, timed=5),
        QuerySource(None, 0).ask(bench_model, Lengths("16", (16,)), warmup=2, timed=5),
    ]
    assert len({asked.sha256, *(item.sha256 for item in different)}) == 5


def test_labels_are_never_asked(bench_model: BenchModel, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(as_csv(ROWS))
    asked = QuerySource(DataFile(tmp_path / "d.csv", label="label"), 0).ask(bench_model, Lengths("data"), warmup=0, timed=4)
    assert all(set(row) == {"text"} for row in asked.rows)
    assert (
        asked.sha256 == QuerySource(DataFile(tmp_path / "d.csv"), 0).ask(bench_model, Lengths("data"), warmup=0, timed=4).sha256
    )


@given(st.lists(st.integers(1, 32), min_size=1, max_size=20), st.integers(0, 5), st.integers(1, 40), st.integers(0, 9))
def test_token_ids_have_the_lengths_of_the_log(
    bench_model: BenchModel, values: list[int], warmup: int, timed: int, seed: int
) -> None:
    asked = QuerySource(None, seed).ask(bench_model, Lengths("log", tuple(values)), warmup=warmup, timed=timed)
    assert not asked.is_text
    assert tuple(map(len, asked.rows)) == asked.lengths
    assert len(asked.rows) == warmup + timed and set(asked.lengths) <= set(values)
    assert all(0 <= token < bench_model.vocabulary for row in asked.rows for token in row)
    if warmup + timed >= len(values):
        assert sorted(asked.lengths[: len(values)]) == sorted(values)  # the log is gone through before any comes again


def test_lengths_beyond_the_positions_are_refused_and_named(bench_model: BenchModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--lengths: 33 tokens are more than the 32 that onnxruntime/fp32 takes"):
        QuerySource(None, 0).ask(bench_model, Lengths("33", (33,)), warmup=0, timed=1)
    with pytest.raises(InputError, match=r"log\.txt, value 2: 40 tokens"):
        QuerySource(None, 0).ask(bench_model, Lengths("log", (5, 40), tmp_path / "log.txt"), warmup=0, timed=1)


def test_without_a_tokenizer_texts_are_as_many_tokens_as_words(bench_model: BenchModel) -> None:
    asked = QuerySource(None, 0).ask(replace(bench_model, tokenizer=None), Lengths("data"), warmup=0, timed=256)
    words = sorted(min(len(text.split()) + 2, 32) for text in sentences())
    assert sorted(asked.lengths) == words


def test_a_bundle_is_asked_what_it_was_made_for(bench_model: BenchModel, tmp_path: Path) -> None:
    pairs = replace(bench_model, columns=("text", "text_pair"))
    rows = QuerySource(None, 0).rows(pairs)
    assert all(set(row) == {"text", "text_pair"} for row in rows)
    (tmp_path / "single.txt").write_text("one text\n")
    with pytest.raises(EdgebertError, match="has text, but onnxruntime/fp32 was made for text and text_pair"):
        QuerySource(DataFile(tmp_path / "single.txt"), 0).rows(pairs)
    assert isinstance(pairs.serving, Serving)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["bench", "/home/ada/runs/mine/bundle/", "--batch", "1,8"], "edgebert bench bundle --batch 1,8"),
        (["bench", "m.onnx", "--lengths", "log:/var/log/l.txt"], "edgebert bench m.onnx --lengths log:l.txt"),
        (["bench", "m.onnx", "--data=../secret/dev.tsv:text"], "edgebert bench m.onnx --data=dev.tsv:text"),
        (["bench", "my model.onnx"], "edgebert bench 'my model.onnx'"),
        (["bench", "--variant", "openvino/int8-nncf"], "edgebert bench --variant openvino/int8-nncf"),
        (["bench", "--baseline-variant=a/b", "c/d"], "edgebert bench --baseline-variant=a/b d"),
    ],
)
def test_command_is_kept_without_the_folders_of_files(given: list[str], kept: str) -> None:
    assert command_line(given) == kept


TOKENS = get_task("token-classification")


def test_words_and_tags_are_read_of_conll_and_of_json_lines(tmp_path: Path) -> None:
    row = {"words": ["Ada", "lived"], "tags": ["B-x", "O"]}
    (tmp_path / "d.conll").write_text("Ada B-x\nlived O\n")
    (tmp_path / "d.jsonl").write_text(json.dumps({"tokens": row["words"], "tags": row["tags"]}) + "\n")
    (tmp_path / "text.jsonl").write_text('{"text": "Ada lived"}\n')
    for name in ("d.conll", "d.jsonl"):
        assert DataFile.parse(str(tmp_path / name), label="tags").rows(TOKENS) == [row]
    assert DataFile.parse(str(tmp_path / "text.jsonl")).rows(TOKENS) == [{"text": "Ada lived"}]


def test_words_and_tags_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"words": ["Ada", "lived"], "tags": ["O"]}\n')
    with pytest.raises(DataError, match="row 1: has 2 words and 1 tags"):
        DataFile.parse(str(tmp_path / "d.jsonl"), label="tags").rows(TOKENS)
    (tmp_path / "t.jsonl").write_text('{"text": "Ada lived", "tags": ["O", "O"]}\n')
    with pytest.raises(DataError, match="no `words`"):
        DataFile.parse(str(tmp_path / "t.jsonl"), label="tags").rows(TOKENS)


def with_options(task: str, columns: tuple[str, ...], **options: Any) -> BenchModel:
    """A model of a task with options, as a bundle has it; its files are not there."""
    lie = {"path": Path("b"), "file": Path("b/m.onnx"), "artifact": "a", "size_bytes": 1, "tokenizer": Path("b/tokenizer.json")}
    target = Target(runtime="onnxruntime")
    known: dict[str, Any] = {"target": target, "checked_at": target, "task": task, "columns": columns, "task_options": options}
    return BenchModel(name="m", labels=(), max_length=32, pad_id=0, vocabulary=100, **lie, **known)


def test_every_process_gets_the_options_of_the_task(tmp_path: Path) -> None:
    model = with_options("zero-shot-classification", ("text",), candidates=["travel", "sport"], entailment=2)
    asked = Asked([{"text": "a"}], "", (3,), is_text=True)
    planned = Planned(model, "candidate", model.target, Setting(), asked, Probe(query_s=1.0), Lengths("data"))
    job = RoundJob.model_validate_json(_job(planned, BenchOptions(), tmp_path / "rows.json").model_dump_json())
    assert job.task is not None and get_task(job.task, job.task_options) == model.answered_task
    assert job.task_options == {"candidates": ["travel", "sport"], "entailment": 2}


def test_rows_are_read_with_the_options_of_the_task(tmp_path: Path) -> None:
    squad = {"question": "who?", "context": "nobody knows", "answers": []}
    zero_shot = with_options("zero-shot-classification", ("text",), candidates=["travel", "sport"])
    cases = (
        (with_options("question-answering", ("context", "question"), no_answer=True), "answers", [squad]),
        (zero_shot, "label", [{"text": "a", "label": "sport"}]),
        (zero_shot, "label", [{"text": "a", "candidates": ["x", "y"], "label": "y"}]),  # who asks may name others
    )
    for number, (model, label, rows) in enumerate(cases):
        (tmp_path / f"{number}.jsonl").write_text(as_jsonl(rows))
        found = QuerySource(DataFile.parse(str(tmp_path / f"{number}.jsonl"), label), 0).rows(model)
        assert len(found) == 1 and {*found[0]} == {*rows[0]}
    other = with_options("zero-shot-classification", ("text",), candidates=["travel"])
    with pytest.raises(DataError, match="none of its candidates"):
        (tmp_path / "d.jsonl").write_text(as_jsonl([{"text": "a", "label": "sport"}]))
        QuerySource(DataFile.parse(str(tmp_path / "d.jsonl"), "label"), 0).rows(other)


def test_a_model_beside_a_bundle_has_the_options_of_its_task() -> None:
    bundle = with_options("embedding", ("text",), prompt="query", prompts={"query": "q: "})
    alone = replace(bundle, checked_at=None, task=None, task_options={})
    asked, _ = asked_like_the_bundle([alone, bundle], Silent())
    assert asked.answered_task == bundle.answered_task
    other = replace(bundle, name="other", task_options={})
    with pytest.raises(InputError, match=r"prompt.*nothing can be compared"):
        asked_like_the_bundle([alone, bundle, other], Silent())
