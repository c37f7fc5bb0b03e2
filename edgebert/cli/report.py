"""`edgebert report`: writes reports as one HTML page that opens anywhere, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebert.cli.common import JsonOption, print_result


def report(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN|REPORT...", help="Folders or report.json of compress or bench.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
    open_page: Annotated[bool, typer.Option("--open", help="Opens it in the browser.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is no page of edgebert.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Writes one self-contained HTML page of one or more reports: verdict, tables, pictures, how it was measured."""
    from edgebert.report.page.page import check_out, render, write_page
    from edgebert.report.page.source import read_sources

    check_out(out, force=force)
    sources = read_sources(paths)
    text = render(sources)
    write_page(out, text, force=force)
    size = len(text.encode()) / 1e6
    names = [{"report": source.name, "verdict": source.verdict.status if source.verdict else None} for source in sources]
    print_result(
        json_output,
        lambda: {"page": str(out), "megabytes": round(size, 3), "reports": names},
        lambda: [f"Wrote {out} ({size:.1f} MB). It opens in any browser, without a network."],
    )
    if open_page:
        import webbrowser

        webbrowser.open(out.absolute().as_uri())
