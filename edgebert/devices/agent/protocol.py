"""What a workstation and the agent on a device say to each other.

One process of the agent (`python -P -m edgebert.devices.agent.agent`) answers one request. Standard input: the request as
one line of JSON, then, for `receive`, the bytes of its files one after the other. Standard output: events, one line of JSON
each; the last one is `result` or `error`. Standard error is for people.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from edgebert.core.strict import Frozen

PROTOCOL = 1
DEFAULT_ROOT = "edgebert"
"""Folder on a device that holds its slots, counted from the home of the user there."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Message(Frozen):
    """Read-only, no unknown keys."""


class RequestedFile(Message):
    """One file of a bundle, by its content."""

    path: str
    """In the bundle, with `/`."""
    sha256: Sha256
    size: int = Field(ge=0)


class Piece(Message):
    """What is sent of one content: all bytes from `offset` on."""

    sha256: Sha256
    size: int = Field(ge=0)
    offset: int = Field(0, ge=0)


class VariantTrial(Message):
    """How variants are measured on the device."""

    rounds: int = Field(5, ge=1)
    queries: int = Field(64, ge=1)
    warmup: int = Field(10, ge=0)


class Hello(Message):
    """Who are you, and what do you have? -> `About`."""

    op: Literal["hello"] = "hello"
    root: str = DEFAULT_ROOT


class Have(Message):
    """Which of these contents do you hold already, and how much of the others? -> `Held`."""

    op: Literal["have"] = "have"
    root: str = DEFAULT_ROOT
    files: tuple[RequestedFile, ...]


class Receive(Message):
    """Takes the pieces that follow on standard input. An event `received` for each that is whole. -> `{}`."""

    op: Literal["receive"] = "receive"
    root: str = DEFAULT_ROOT
    pieces: tuple[Piece, ...]


class Install(Message):
    """Lays the files out, checks, tries and measures them, and switches where a variant passes. -> `Installed`."""

    op: Literal["install"] = "install"
    root: str = DEFAULT_ROOT
    device: str
    """What the workstation calls the device; the report is named after it."""
    files: tuple[RequestedFile, ...]
    trial: VariantTrial = VariantTrial()


class Rollback(Message):
    """Switches to the other slot after it was checked. -> `Status`."""

    op: Literal["rollback"] = "rollback"
    root: str = DEFAULT_ROOT


class AskStatus(Message):
    """What serves, and what could? -> `Status`."""

    op: Literal["status"] = "status"
    root: str = DEFAULT_ROOT
    thorough: bool = False
    """Whether every file is hashed and the signature checked, as a load does it; else only presence, sizes and records are."""


class Pin(Message):
    """Trusts the public key (PEM) from now on, under that name. -> `{}`."""

    op: Literal["pin"] = "pin"
    name: str
    pem: str


AnyRequest = Annotated[Hello | Have | Receive | Install | Rollback | AskStatus | Pin, Field(discriminator="op")]
REQUEST: TypeAdapter[Hello | Have | Receive | Install | Rollback | AskStatus | Pin] = TypeAdapter(AnyRequest)


class About(Message):
    """Answer to `hello`."""

    protocol: int
    edgebert_version: str
    python: str
    machine: str
    """x86_64, aarch64, ..."""
    cpu: str
    isas: tuple[str, ...]
    runtimes: dict[str, str]
    """Runtime -> version, of those installed."""
    free_bytes: int = Field(ge=0, lt=1 << 63)
    trusted: tuple[str, ...]
    """Fingerprints of the keys that this device trusts."""
    serving: Sha256 | None
    """sha256 of the manifest (edgebert.json) of what serves; None where nothing does."""


class Held(Message):
    """Answer to `have`: sha256 -> bytes that are there already, the size for what is whole. Absent contents are left out."""

    bytes_there: dict[str, int]


class Tried(Message):
    """What became of one variant on the device."""

    variant: str
    self_test: Literal["ok", "differs", "untested"]
    p50_ms: float | None
    p90_ms: float | None
    passed: bool
    reason: str
    """Why it did not pass, or what it holds."""


class Installed(Message):
    """Answer to `install`."""

    outcome: Literal["switched", "refused", "unchanged"]
    """unchanged: the same bundle served already. refused: no variant passed, and the device serves what it served."""
    slot: Literal["a", "b"] | None
    variant: str | None
    tried: tuple[Tried, ...]
    reasons: tuple[str, ...]
    report: dict[str, Any] | None
    """Of the measurements on the device, as report.json holds it."""


class Slot(Message):
    """One slot that is filled."""

    slot: Literal["a", "b"]
    bundle: str
    """Name of its bundle."""
    manifest: Sha256
    variant: str
    p50_ms: float | None
    signed_by: str
    """Fingerprint of the key, identity of the certificate, or `unsigned`."""
    installed: str
    """When, by the device's clock, ISO 8601 with its zone."""
    fault: str | None = None
    """Why it could not serve, where it could not."""


class Status(Message):
    """Answer to `status` and `rollback`."""

    root: str
    serving: Literal["a", "b"] | None
    slots: tuple[Slot, ...]


class Note(Message):
    """Something to tell the user."""

    event: Literal["note"] = "note"
    line: str


class Advance(Message):
    """How far a long step is."""

    event: Literal["advance"] = "advance"
    title: str
    done: float
    total: float | None = None


class Received(Message):
    """A content is there as a whole, and its hash is right."""

    event: Literal["received"] = "received"
    sha256: Sha256


class Result(Message):
    """The answer; the last event."""

    event: Literal["result"] = "result"
    value: dict[str, Any]


class ReportedFailure(Message):
    """Why there is no answer; the last event."""

    event: Literal["error"] = "error"
    kind: str
    """Name of the class in edgebert.errors."""
    message: str
    hint: str | None = None


AnyEvent = Annotated[Note | Advance | Received | Result | ReportedFailure, Field(discriminator="event")]
EVENT: TypeAdapter[Note | Advance | Received | Result | ReportedFailure] = TypeAdapter(AnyEvent)
