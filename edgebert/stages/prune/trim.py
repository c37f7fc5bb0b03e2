"""trim: removes the tokens and positions that the task does not need, and says what held-out texts lose by it.

Held-out texts are the rows of data.eval, which no token is kept for. A token of theirs is lost if its row was removed: the
text then has other tokens in its place, smaller ones or unknown ones.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.data.drift import unknown_id
from edgebert.data.prepared import PreparedData
from edgebert.models.embeddings import keep_positions, keep_tokens
from edgebert.models.families import TOKENIZER_FILES
from edgebert.models.language_pieces import language_pieces
from edgebert.models.tokenizer_files import limit_tokenizer, rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, count_tokens, read_tokenizer, special_tokens
from edgebert.report.vocabulary_loss import VocabularyLoss
from edgebert.runtimes.serving import Serving
from edgebert.stages.base import RunContext
from edgebert.stages.examples import Examples

if TYPE_CHECKING:
    from edgebert.stages.prune.settings import PruneSettings, VocabularyCut

Facts = dict[str, Any]


def trim(
    stage: PruneSettings, model: Any, context: RunContext, serving: Serving, examples: Examples | None
) -> tuple[Any, Facts]:
    """The model without the tokens and positions to remove, and what is to be said of it.

    Args:
        context: its folder has the tokenizer, which is rewritten there.
        serving: how texts reached the model before.
        examples: rows whose tokens stay; None for languages alone.
    """
    out, facts = context.out, Facts()
    if stage.positions:
        model = keep_positions(model, stage.positions)
        limit_tokenizer(out, stage.positions)
    if stage.vocabulary:
        rows = model.config.vocab_size
        kept = _kept_tokens(stage.vocabulary, out, examples)
        model = keep_tokens(model, kept)
        replace_tokenizer(out, kept)
        after = dataclasses.replace(serving, tokenizer=out / "tokenizer.json", tokenizer_sha256=None)
        facts = _facts(rows, kept, held_out(serving, after, context.data["eval"], kept))
        if (found := VocabularyLoss.of(facts)) is not None:
            context.progress.note(found.sentence())
    return model, facts


def _kept_tokens(cut: VocabularyCut, folder: Path, examples: Examples | None) -> tuple[int, ...]:
    counts = count_tokens(_tokens_of(examples)) if examples else {}
    tokenizer = read_tokenizer(folder)
    also = language_pieces(folder, tokenizer, cut.languages) if cut.languages else ()
    return choose_vocabulary(tokenizer, counts, cut.min_count, special=special_tokens(folder), also=also)


def _tokens_of(examples: Examples) -> Iterator[tuple[int, ...]]:
    for data in examples.sets:
        for rows in data.blocks():
            for item in examples.serving.encode(examples.tokenizer, rows):
                yield item.ids


def replace_tokenizer(folder: Path, kept: Sequence[int]) -> None:
    """Rewrites the tokenizer in a folder to the kept tokens."""
    rewritten = folder / "tokenizer.new"
    rewrite_tokenizer(folder, rewritten, kept)
    for name in TOKENIZER_FILES:  # a file that cannot be rewritten has the former vocabulary
        (folder / name).unlink(missing_ok=True)
    for file in rewritten.iterdir():
        file.replace(folder / file.name)
    rewritten.rmdir()


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What texts lose that no token was kept for. Special tokens around a text are not counted."""

    before: int
    """Tokens before the cut."""
    lost: int
    """Tokens among them whose rows were removed."""
    after: int
    """Tokens after the cut."""
    unknown_before: int
    unknown_after: int


def held_out(before: Serving, after: Serving, data: PreparedData, kept: Sequence[int]) -> HeldOut:
    """Compares the tokens that two servings make of the same rows."""
    (old, old_unknown), (new, new_unknown) = (_counted(serving, data) for serving in (before, after))
    stay = set(kept)
    return HeldOut(
        before=old.total(),
        lost=sum(count for token, count in old.items() if token not in stay),
        after=new.total(),
        unknown_before=old[old_unknown],
        unknown_after=new[new_unknown],
    )


def _counted(serving: Serving, data: PreparedData) -> tuple[Counter[int], int]:
    """Token -> occurrences in the rows, without special tokens; and the unknown token, -1 where there is none."""
    tokenizer = serving.open_tokenizer()
    unknown, counts = unknown_id(tokenizer), Counter[int]()
    for rows in data.blocks():
        counts.update(count_tokens(item.ids for item in serving.encode(tokenizer, rows)))
    for special in {*tokenizer.encode("").ids} - {unknown}:
        del counts[special]
    return counts, -1 if unknown is None else unknown


def _facts(rows: int, kept: Sequence[int], found: HeldOut) -> Facts:
    """Facts for the run's record; shares are 0 to 1."""
    return {
        "tokens": len(kept),
        "tokens_before": rows,
        "tokens_removed_share": round(1 - len(kept) / rows, 6),
        "held_out_tokens": found.before,
        "held_out_lost_share": _share(found.lost, found.before),
        "held_out_unknown_share_before": _share(found.unknown_before, found.before),
        "held_out_unknown_share": _share(found.unknown_after, found.after),
        "held_out_growth": round(found.after / found.before, 6) if found.before else 1.0,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
