"""edgebert.json, the manifest of a bundle: its files, variants, goldens and verdict. Strict, and light to import."""

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
"""How far outputs, or the probabilities of labels, may be from the goldens on another CPU or with another version of a runtime:
INT8 kernels round differently, a saturating one errs more."""
LENGTH_LIMIT = 1 << 20
TOKEN_LIMIT = (1 << 31) - 1
"""More tokens in a text, and a larger token id, than any BERT has."""
KEYS_LIMIT = 10_000
"""Most keys of one object of a manifest: each unknown key would be an error of its own."""
TOLERANCE_LIMIT = 1.0
"""Largest tolerance that a manifest may allow: outputs that differ by more are wrong."""
NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that mean a device on Windows."""
MADE = "made"
"""Key in the first entry of the lineage; see `BundleManifest.made`."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
APART = (MANIFEST, "edgebert.sig", ".gitattributes", ".git", ".cache")
"""Names that no manifest lists: the manifest, the signature, and what the Hub and its client put there."""

Texts = Annotated[tuple[str, ...], FailFast()]
"""Stop at the first invalid item: a list of a million invalid ones would be a million errors."""


class GoldenInputs(Frozen):
    """Rows (column -> text, or list of texts), and the token ids that the bundle's tokenizer makes of each."""

    rows: Annotated[tuple[dict[str, str | tuple[str, ...]], ...], FailFast(), Field(min_length=1)]
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
    """Python package -> version that the variant was made and measured with. Others may run it as well: the goldens decide."""
    requires_isa: Annotated[tuple[Isa, ...], FailFast()] = Field(
        default_factory=lambda known: EXACT if known.get("precision") == "int8" else ()
    )
    """The CPU must have one of these; empty if any CPU will do. In bundles without the key, INT8 weights have 8 bits."""
    tolerance: float = Field(gt=0, le=TOLERANCE_LIMIT)
    golden_outputs: dict[str, tuple[Any, ...]]

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        return inside(file)

    def runs_on(self, isas: Collection[Isa]) -> bool:
        """Whether a CPU with these instruction sets computes the variant's outputs without saturation."""
        return not self.requires_isa or bool(set(self.requires_isa) & set(isas))


class BundleManifest(Frozen):
    """The content of edgebert.json."""

    schema_version: Literal[1] = 1
    edgebert_version: str
    name: str
    task: str
    task_options: dict[str, Any] = Field(default_factory=dict)
    """The task's options that are not at their defaults; the key is written only where there are some."""
    labels: Texts
    max_length: int = Field(ge=1, le=LENGTH_LIMIT)
    pad_id: int = Field(ge=0, le=TOKEN_LIMIT)
    truncation_side: Literal["left", "right"] = "right"
    """Side of a long text that is cut off. Bundles without the key were measured with texts cut on the right, whatever their
    tokenizer.json says; the key is written only for the left, which versions that cut on the right refuse to load."""
    files: dict[str, FileEntry]
    """Name -> size and sha256 of every file but the manifest and the signature."""
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
                raise ValueError(f"{name!r} may not be listed in a manifest")
        if len({same_file(name) for name in files}) < len(files):
            raise ValueError("two names are one file on systems that do not tell their letters apart")
        return files

    @property
    def made(self) -> str | None:
        """When it was written, as ISO 8601 in UTC by the clock of the machine that wrote it; None where it does not say.

        It stands in the lineage, whose entries devices with an older edgebert take as they are.
        """
        said = self.lineage[0].get(MADE) if self.lineage else None
        return said if isinstance(said, str) and TIME.fullmatch(said) else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that its models take."""
        return tuple(sorted(self.goldens.rows[0]))

    def variant(self, name: str) -> ManifestEntry | None:
        """The variant of that name; None if there is none."""
        return next((variant for variant in self.variants if variant.name == name), None)


def parse_manifest(content: Any) -> BundleManifest:
    """Checks parsed JSON as a manifest, in time and memory proportional to its length.

    Raises:
        ValueError: it is not a manifest, with the first reason.
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
    """A file's name, relative to the bundle's folder.

    Raises:
        ValueError: it leads out of the folder, or would mean another file on some system.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or NOT_IN_NAMES.search(name):
        raise ValueError(f"{name!r} leaves the bundle")
    if path.as_posix() != name or any(part.endswith((".", " ")) or RESERVED.fullmatch(part) for part in path.parts):
        raise ValueError(f"{name!r} is not the same file everywhere")
    return name


def same_file(name: str) -> str:
    """A name as file systems see it that ignore case and the way in which an accent is encoded."""
    return unicodedata.normalize("NFC", name).casefold()
