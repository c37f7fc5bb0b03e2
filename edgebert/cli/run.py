"""`edgebert run`: predicts with a bundle, or with what serves on this device."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.cli.common import JsonOption, QuietOption, open_progress, print_result
from edgebert.core.text_table import aligned
from edgebert.errors import InputError

if TYPE_CHECKING:
    from edgebert.bundle.predictor import Predictor
    from edgebert.tasks.answers import Answer

LONG = 100
"""Lines from which on progress is shown."""
NO_ANSWER = "-"


def run_bundle(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Folder that compress wrote, or a device's folder that ship fills.")
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Texts; without any, lines of --file or standard input."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "--in", metavar="FILE", help="One text a line; a tab separates the sentences of a pair."),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: what the verdict selected, or the device.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: as measured.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=4096, help="Texts at a time. Default: as measured.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, metavar="K", help="Probabilities of the first K labels.")] = None,
    logits: Annotated[bool, typer.Option("--logits", help="With --json: the model's logits as well.")] = False,
    candidates: Annotated[
        str | None, typer.Option(metavar="A,B", help="Zero-shot: labels to choose from. Default: the text's, or the bundle's.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="NAME", help="Embedding: the model's prompt before every text. Default: the model's.")
    ] = None,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Predicts with a bundle, or with what serves on this device. One answer a line; a blank line has none."""
    from edgebert.bundle.predictor import load_predictor

    lines = _texts(texts, file)
    # Nobody measured the latency of a whole file: threads that spin would only take cores from other programs.
    predictor = load_predictor(bundle, variant=variant, threads=threads, spinning=False)
    if variant is None and predictor.variant.name != predictor.selected:
        _note(f"{predictor.selected} was selected, but {predictor.obstacle}; {predictor.variant.name} answers instead")
    named = None if candidates is None else [label.strip() for label in candidates.split(",")]
    options: dict[str, Any] = {"batch": batch, "top_k": top_k, "logits": logits, "candidates": named, "prompt": prompt}
    if texts:
        answers: list[Answer | None] = [*predictor.predict(lines, **options)]
    else:
        answers = _answers(predictor, lines, quiet=quiet, **options)
    if blank := answers.count(None):
        _note(f"{blank} of {len(lines)} lines {'is' if blank == 1 else 'are'} blank and have no answer")
    print_result(
        json_output,
        lambda: _as_json(lines, answers),
        lambda: aligned(list(_table(lines, answers, probabilities=top_k is not None))),
    )


def _answers(predictor: Predictor, lines: Sequence[str], *, quiet: bool, **options: Any) -> list[Answer | None]:
    with open_progress(quiet or len(lines) < LONG).step(f"answer {len(lines)} lines", len(lines)) as step:
        return predictor.predict_lines(lines, advance=step.advance, **options)


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)


def _as_json(lines: Sequence[str], answers: Sequence[Answer | None]) -> list[dict[str, Any]]:
    """An object a line, with its index from 0; every field of an answer is null for a blank line."""
    found = [answer.as_json() if answer else None for answer in answers]
    empty = dict.fromkeys(next(filter(None, found), {}))
    return [{"index": index, "text": line, **(found[index] or empty)} for index, line in enumerate(lines)]


def _table(lines: Sequence[str], answers: Sequence[Answer | None], *, probabilities: bool) -> Iterator[list[str]]:
    """Cells of each line, the text last."""
    for line, answer in zip(lines, answers, strict=True):
        cells = list(answer.cells()) if answer else [NO_ANSWER] * _width(answers)
        if probabilities:
            cells.append(_ranking(answer) if answer else NO_ANSWER)
        yield [*cells, _on_one_line(line)]


def _width(answers: Sequence[Answer | None]) -> int:
    return next((len(answer.cells()) for answer in answers if answer), 1)


def _ranking(answer: Answer) -> str:
    """Labels and their probabilities, of an answer that has them."""
    return ", ".join(f"{label} {share:.4f}" for label, share in answer.as_json().get("probabilities", {}).items()) or NO_ANSWER


def _on_one_line(text: str) -> str:
    """The text without characters that end a line or control a terminal. A tab stays: it separates a pair."""
    return "".join(mark if mark.isprintable() or mark == "\t" else ascii(mark)[1:-1] for mark in text)


def _texts(texts: list[str] | None, file: Path | None) -> list[str]:
    if texts and file:
        raise InputError("There are both texts and --file.", hint="Give one of them.")
    if texts:
        return texts
    try:
        # utf-8-sig: a mark that some editors write before the first line is not part of the text.
        data = (file.read_bytes() if file else sys.stdin.buffer.read()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "Convert it, for example: iconv -f latin1 -t utf-8 OLD > NEW"
        raise InputError(f"{file or 'standard input'} is not UTF-8 text.", hint=hint) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", hint="Name a text file with --file.") from error
    lines = data.replace("\r\n", "\n").split("\n")  # a text may hold other separators
    lines = lines[:-1] if lines[-1] == "" else lines  # the last line ends as well
    if not any(map(str.strip, lines)):
        raise InputError("There is no text to predict.", hint='Give it as arguments: edgebert run BUNDLE "some text"')
    return lines
