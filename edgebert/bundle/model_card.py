"""The model card: README.md of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgebert.bundle.manifest import ManifestEntry
from edgebert.errors import MissingPackage
from edgebert.report.text.removed import removal_lines
from edgebert.report.text.run_table import markdown_table, verdict_lines
from edgebert.report.text.search import advice_lines, choice_lines, sensitivity_lines, trial_rows

if TYPE_CHECKING:
    from edgebert.bundle.parts import BundleParts


def model_card(parts: BundleParts, variants: Sequence[ManifestEntry]) -> str:
    """Renders the card with the measured table and the gates."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingPackage("jinja2", needed_for="Writing the model card") from error
    # Markdown, not HTML: escaping would show in it.
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["oneline"] = lambda text: " ".join(str(text).replace("|", "/").split())
    report = parts.report
    return environment.from_string(Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8")).render(
        parts=parts,
        report=report,
        variants=variants,
        table=markdown_table(report, parts.verdict),
        verdict_lines=verdict_lines(parts.verdict),
        removal_lines=removal_lines(report, parts.verdict.best.entry),
        searched=[entry for entry in report.entries if entry.search],
        choice_lines=choice_lines,
        trial_rows=trial_rows,
        sensitivity_lines=sensitivity_lines,
        advice_lines=advice_lines(report, parts.verdict),
        intermediates=any(entry.role == "intermediate" for entry in report.entries),
        missing_fp32=all(variant.role != "baseline" for variant in variants),
        queries=len(parts.verdict.best.entry.latencies_ms()),
        eval_examples=len(report.references),
    )
