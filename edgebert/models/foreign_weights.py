"""Checkpoints that wrappers, adapters and quantisers leave behind: named for what they are, with the way to a plain one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.families.base import Family
from edgebert.models.weight_files import Tensor

MERGE = "Merge it first: PeftModel.from_pretrained(BASE, FOLDER).merge_and_unload().save_pretrained(NEW)"
ORIGINAL = "Name the model that it was made from, in FP32 or 16 bits; edgebert quantises it."
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Mark:
    """A piece of a tensor's name that says what saved it."""

    pattern: str
    """Regular expression, found anywhere in the name."""
    origin: str
    """What leaves such names behind."""
    mend: str = ""
    """What to do; where it is empty, the piece is dropped from the names."""


MARKS = (
    Mark(r"\.lora_|\.base_layer\.", "PEFT, whose adapters are not merged", MERGE),
    Mark(r"\.SCB$|\.weight_format$|\.absmax$|\.quant_map$|\.quant_state\.", "bitsandbytes, in 8 or 4 bits", ORIGINAL),
    Mark(r"\.qweight$|\.qzeros$|\.weight_scale|\.weight_packed$|\.input_scale$|\.g_idx$", "a quantiser", ORIGINAL),
    Mark(
        r"\.weight_(orig|mask)$",
        "torch.nn.utils.prune",
        "Make it permanent: prune.remove(module, 'weight') for each, then save.",
    ),
    Mark(
        r"\.parametrizations\.",
        "torch's parametrisation",
        "Take it off: torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') for each, then save.",
    ),
    Mark(
        r"\.weight_[gv]$", "weight normalisation", "Take it off: torch.nn.utils.remove_weight_norm(module) for each, then save."
    ),
    Mark(r"^base_model\.model\.", "PEFT"),
    Mark(r"(?:^|(?<=\.))_orig_mod\.", "torch.compile"),
    Mark(r"^module\.", "DataParallel or DistributedDataParallel"),
    Mark(r"(?:^|(?<=\.))_?(?:fsdp|checkpoint)_wrapped_module\.", "a wrapper of torch"),
)


def refuse_adapters(path: Path) -> None:
    """Raises SourceError for the folder of an adapter: what it changes would be left out."""
    found = next((name for name in ADAPTERS if (path / name).is_file()), None)
    if found is None:
        return
    if (path / "config.json").is_file():
        raise SourceError(
            f"{path} holds an adapter ({found}) beside a model, and edgebert would leave it out.",
            hint=f"{MERGE}; where the model has it merged already, remove {found}.",
        )
    raise SourceError(f"{path} holds an adapter ({found}), which is not a whole model.", hint=MERGE)


def refuse_foreign_names(path: Path, family: Family, names: Iterable[str]) -> None:
    """Raises SourceError where the names of tensors are not those that `save_pretrained` of a plain model writes."""
    listed = sorted(names)
    for mark in MARKS:
        found = next((name for name in listed if re.search(mark.pattern, name)), None)
        if found is not None:
            mend = mark.mend or _without(re.findall(mark.pattern, found)[0])
            raise SourceError(f"The weights in {path} were saved by {mark.origin}: they hold {found}.", hint=mend)
    table = re.compile(rf"(.+?)({re.escape(family.prefix)}\.)?embeddings\.{re.escape(family.embedding.word)}\.weight")
    wrapped = next((match for match in map(table.fullmatch, listed) if match and match[1] != f"{family.prefix}."), None)
    if wrapped is not None:
        raise SourceError(
            f"The weights in {path} are those of a {family.title} inside another module: their names begin with {wrapped[1]}",
            hint=_without(wrapped[1]),
        )


def _without(piece: str) -> str:
    """The way to the same file without a piece of its names."""
    return (
        f'Drop "{piece}" from them: save_file({{name.replace("{piece}", ""): tensor for name, tensor in '
        'load_file("model.safetensors").items()}, "model.safetensors", {"format": "pt"}), both of safetensors.torch.'
    )


def refuse_pruned_heads(file: Path, family: Family, config: Mapping[str, Any], found: Mapping[str, Tensor]) -> None:
    """Raises SourceError for `pruned_heads` of Transformers 4; the hint has the same sizes in edgebert's words."""
    if not config.get("pruned_heads"):
        return
    fields = family.with_sizes(config)
    heads = fields["num_attention_heads"]
    size = fields["hidden_size"] // heads
    query = family.layer.query if family.layer else "query"
    paths = sorted((name for name in found if name.endswith(f".{query}.weight")), key=_index)
    kept = [found[name].shape[0] // max(size, 1) for name in paths if found[name].shape]
    if all(count == heads for count in kept):
        hint = "Remove it: the weights have all heads."
    else:
        sizes = {
            "model_type": family.pruned_type,
            "layer_heads": kept,
            "layer_intermediate_sizes": [fields["intermediate_size"]] * len(kept),
            "attention_head_size": size,
        }
        hint = f"In its place write {json.dumps(sizes)[1:-1]}, which is how edgebert names such a model."
    raise SourceError(f"{file} has pruned_heads, which Transformers reads no more.", hint=hint)


def _index(name: str) -> int:
    """The number of the layer in a tensor's name."""
    return int(next((part for part in name.split(".") if part.isdecimal()), "0"))
