"""faults: settings of a prune stage that cannot work with the model, checked before any work. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgebert.core.packages import is_installed
from edgebert.errors import SourceError
from edgebert.models.families import family_of_config
from edgebert.models.families.base import Ability, Family
from edgebert.stages.base import ModelFacts
from edgebert.stages.prune.settings import sizes_of

if TYPE_CHECKING:
    from edgebert.stages.prune.settings import PruneSettings

DEFAULT_PADDING = 0
"""BERT's pad_token_id where config.json has none."""


def faults(stage: PruneSettings, model: ModelFacts) -> list[str]:
    """One message for each setting that cannot work."""
    heads, intermediate_sizes = sizes_of(model.config)
    family = family_of_config(model.config)
    messages = _part_faults(stage, family, model.config)
    if messages:
        return messages
    if stage.sizes:
        try:
            stage.sizes.resolved(heads, intermediate_sizes)
        except ValueError as error:
            messages.append(str(error))
    if stage.depth and stage.depth > len(heads):
        messages.append(f"depth is {stage.depth}, but the model has {len(heads)} layers")
    if stage.to and stage.block > max(intermediate_sizes):
        messages.append(f"block is {stage.block}, but the widest layer has {max(intermediate_sizes)} FFN neurons")
    if stage.recovers:
        messages += [f"recover: {fault}" for fault in _recovery_faults(stage, model)]
    if stage.positions:
        messages += _position_faults(stage.positions, family.longest_input(model.config), model.max_length)
    if stage.vocabulary and model.task is not None and model.task.asks_for_tokens:
        messages.append(
            f"vocabulary changes which tokens {model.task.name} asks for, so that scores before and after the cut would be of "
            "other questions; drop it here, and cut the model that is fine-tuned from this one"
        )
    if stage.vocabulary and model.tokenizer:
        messages += _tokenizer_faults(model)
    if stage.vocabulary and stage.vocabulary.languages:
        messages += _language_faults(stage.vocabulary.languages)
    return messages


def _language_faults(languages: Sequence[str]) -> list[str]:
    """Languages without a list of words; that the package is missing is said elsewhere."""
    from edgebert.models.languages import PACKAGE, known_languages, unknown_languages

    if not is_installed(PACKAGE) or not (unknown := unknown_languages(languages)):
        return []
    known = ", ".join(known_languages())
    return [
        f"vocabulary.languages has {', '.join(unknown)}; there are words of {known}. For others, give texts in data.transfer"
    ]


def _part_faults(stage: PruneSettings, family: Family, config: Mapping[str, Any]) -> list[str]:
    """Parts that the settings remove, and that a model of the family has to keep."""
    wanted: list[tuple[Ability, str, bool]] = [
        ("units", "heads, neurons and layers", stage.weighs),
        ("tokens", "vocabulary", stage.vocabulary is not None),
        ("positions", "positions", stage.positions is not None),
    ]
    lacks = family.lacking(config)
    refused = [(words, lacks[part]) for part, words, asked in wanted if asked and part in lacks]
    messages = [f"the {words} of {family.title} cannot be cut, because {why}; drop what asks for it" for words, why in refused]
    if stage.to and stage.to.speedup and (why := lacks.get("times")):
        messages.append(f"a speed-up of {family.title} cannot be predicted, because {why}; say `to: {{macs: ...}}` instead")
    return messages


def _position_faults(positions: int, available: int, max_length: int) -> list[str]:
    """Numbers of positions that the model does not have, or that its inputs do not fit."""
    messages = [f"positions is {positions}, but the model has {available}"] if positions > available else []
    if positions < max_length:
        messages.append(f"positions is {positions}, but inputs have up to {max_length} tokens; give task.max_length, too")
    return messages


def _recovery_faults(stage: PruneSettings, model: ModelFacts) -> list[str]:
    """Settings of the recovery that cannot work between a model of these sizes and one that is cut from it."""
    config = model.config
    if model.other_tokenizer:
        return [
            "the student has another tokenizer than its teacher, whose tokens are others; say `to: {macs: ...}`, and distil"
        ]
    return stage.recovery.objective_faults(student=config, teacher=config, name="its teacher")


def _tokenizer_faults(model: ModelFacts) -> list[str]:
    """Tries to cut the tokenizer to the tokens that always stay: the stage would otherwise fail only when it is nearly done."""
    from edgebert.models.tokenizer_files import rewritten_tokenizer
    from edgebert.models.vocabulary import choose_vocabulary, read_tokenizer, special_tokens

    assert model.tokenizer is not None
    folder = model.tokenizer.parent
    try:
        kept = choose_vocabulary(read_tokenizer(folder), {}, 1, special=special_tokens(folder))
        rewritten_tokenizer(folder, kept)
    except SourceError as error:
        return [f"{error.message} {error.hint}"]
    padding, rows = model.config.get("pad_token_id", DEFAULT_PADDING), model.config.get("vocab_size")
    if padding is not None and padding not in kept:
        return [f"config.json has the pad_token_id {padding}, which is a token that may be cut; give it that of the tokenizer"]
    if rows is not None and kept[-1] >= rows:
        return [f"the tokenizer needs the token {kept[-1]}, but the model has {rows}; take the tokenizer that belongs to it"]
    return []
