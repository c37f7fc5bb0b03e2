"""edgebert.json: what a bundle says of itself. Read on the device, so light and strict."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, ValidationError, field_validator

from edgebert.core.store import FileEntry
from edgebert.core.strict import Frozen
from edgebert.runtimes.isa import EXACT
from edgebert.runtimes.target import Isa, Target

MANIFEST = "edgebert.json"
TOLERANCE = {"fp32": 1e-3, "int8": 0.1}
"""How far a golden output may be off on another CPU: INT8 kernels round differently, and a saturating one is off by more."""


LENGTH_LIMIT = 1 << 20
TOKEN_LIMIT = (1 << 31) - 1
"""More tokens in a text, and a higher number of one, than any BERT has."""
KEYS_LIMIT = 10_000
"""Keys of one object of a manifest: each may be an error of its own."""
TOLERANCE_LIMIT = 1.0
"""What no manifest may allow: answers that are further off are other answers."""
NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that mean a device on Windows."""
APART = (MANIFEST, "edgebert.sig", ".gitattributes", ".git", ".cache")
"""Names that no manifest lists: itself, its signature, and what the Hub and its client put there."""


Texts = Annotated[tuple[str, ...], FailFast()]
"""The first that is none says enough: a list of a million of them would be as many errors."""


class GoldenInputs(Frozen):
    """Rows, and the token ids that this bundle's tokenizer makes of them."""

    rows: Annotated[tuple[dict[str, str], ...], FailFast(), Field(min_length=1)]
    token_ids: Annotated[tuple[Annotated[tuple[int, ...], FailFast()], ...], FailFast()]


class ManifestEntry(Frozen):
    """One graph in the bundle."""

    name: str
    role: Literal["baseline", "candidate"]
    precision: Literal["fp32", "int8"]
    target: Target
    file: str
    artifact: str
    status: Literal["BASELINE", "PASSED", "FAILED"]
    reasons: Texts
    requires: dict[str, str]
    """Package -> version that it was measured with."""
    requires_isa: Annotated[tuple[Isa, ...], FailFast()] = Field(
        default_factory=lambda known: EXACT if known.get("precision") == "int8" else ()
    )
    """The CPU must have one of these; empty where any CPU will do. Bundles that do not say so have weights of 8 bits."""
    tolerance: float = Field(gt=0, le=TOLERANCE_LIMIT)
    golden_outputs: dict[str, tuple[Any, ...]]

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        return inside(file)

    def runs_on(self, isas: Collection[Isa]) -> bool:
        """Whether a CPU with these instruction sets gives its answers, and not other ones."""
        return not self.requires_isa or bool(set(self.requires_isa) & set(isas))


class BundleManifest(Frozen):
    """The whole of edgebert.json."""

    schema_version: Literal[1] = 1
    edgebert_version: str
    name: str
    task: str
    labels: Texts
    max_length: int = Field(ge=1, le=LENGTH_LIMIT)
    pad_id: int = Field(ge=0, le=TOKEN_LIMIT)
    files: dict[str, FileEntry]
    """Every file of the bundle but this one and a signature."""
    variants: Annotated[tuple[ManifestEntry, ...], FailFast(), Field(min_length=1)]
    selected: str
    verdict: Literal["PASSED", "FAILED"]
    reasons: Texts
    goldens: GoldenInputs
    lineage: Annotated[tuple[dict[str, Any], ...], FailFast()]

    @field_validator("files")
    @classmethod
    def _all_inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if inside(name).split("/")[0].casefold() in APART:
                raise ValueError(f"{name!r} is not a bundle's to list")
        if len({same_file(name) for name in files}) < len(files):
            raise ValueError("two names are one file on systems that do not tell their letters apart")
        return files

    def variant(self, name: str) -> ManifestEntry | None:
        """The variant of that name."""
        return next((variant for variant in self.variants if variant.name == name), None)


def parse_manifest(content: Any) -> BundleManifest:
    """A manifest from what its JSON holds, in time and memory that grow with its length only.

    Raises:
        ValueError: it is none, with the first reason.
    """
    inner = content.values() if isinstance(content, dict) else ()
    if any(isinstance(value, dict) and len(value) > KEYS_LIMIT for value in (content, *inner)):
        raise ValueError("an object in it has more keys than any of a bundle's")
    try:
        return BundleManifest.model_validate(content, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def inside(name: str) -> str:
    """The name, if it stays within the folder that it is relative to, is written in the one plain way, and means the same on
    every system."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or NOT_IN_NAMES.search(name):
        raise ValueError(f"{name!r} leaves the bundle")
    if path.as_posix() != name or any(part.endswith((".", " ")) or RESERVED.fullmatch(part) for part in path.parts):
        raise ValueError(f"{name!r} is not the same file everywhere")
    return name


def same_file(name: str) -> str:
    """What a system sees that does not tell upper and lower case apart, nor the ways to write an accent."""
    return unicodedata.normalize("NFC", name).casefold()
