"""`edgebert run`: predicts with a bundle, or with what serves on this device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgebert.cli.common import JsonOption, print_result
from edgebert.core.text_table import aligned
from edgebert.errors import InputError


def run_bundle(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Folder that compress wrote, or a device's folder that ship fills.")
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Texts; without any, lines of --file or standard input."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One text a line; a tab separates the sentences of a pair.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: what the verdict selected, or the device.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: as measured.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Predicts with a bundle, or with what serves on this device."""
    from edgebert.bundle.predictor import load_predictor

    lines = _texts(texts, file)
    predictor = load_predictor(bundle, variant=variant, threads=threads)
    if variant is None and predictor.variant.name != predictor.selected:
        note = f"{predictor.selected} was selected, but {predictor.obstacle}; {predictor.variant.name} answers instead"
        typer.echo(f"note: {note}", err=True)
    answers = predictor.predict(lines)
    print_result(
        json_output,
        lambda: [{"text": text, **answer.as_json()} for text, answer in zip(lines, answers, strict=True)],
        lambda: aligned([[*answer.cells(), text] for text, answer in zip(lines, answers, strict=True)]),
    )


def _texts(texts: list[str] | None, file: Path | None) -> list[str]:
    if texts and file:
        raise InputError("There are both texts and --file.", hint="Give one of them.")
    if texts:
        return texts
    try:
        data = file.read_text(encoding="utf-8") if file else sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "Convert it, for example: iconv -f latin1 -t utf-8 OLD > NEW"
        raise InputError(f"{file or 'standard input'} is not UTF-8 text.", hint=hint) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", hint="Name a text file with --file.") from error
    lines = [line for line in data.replace("\r\n", "\n").split("\n") if line.strip()]  # a text may hold other separators
    if not lines:
        raise InputError("There is no text to predict.", hint='Give it as arguments: edgebert run BUNDLE "some text"')
    return lines
