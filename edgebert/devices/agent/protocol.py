"""Protocol: the messages between a workstation and the agent on a device.

One process of the agent (`python -P -m edgebert.slots.agent`) answers one request. Standard input: the request as one line of
JSON, then, for `receive`, the bytes of its files one after the other. Standard output: events, one line of JSON each; the last
one is `result` or `error`. Standard error is for people.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from edgebert.core.strict import Frozen

PROTOCOL = 1
DEFAULT_ROOT = "edgebert"
"""Folder on a device that holds its slots, relative to the home of the user there."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def first_fault(error: ValidationError) -> str:
    """The first fault of a message: the path of its field, where it has one, and what is wrong there."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


class Message(Frozen):
    """Base of all messages: read-only, no unknown keys."""


class RequestedFile(Message):
    """One file of a bundle, by the hash of its content."""

    path: str
    """Path in the bundle, with `/`."""
    sha256: Sha256
    size: int = Field(ge=0)


class Piece(Message):
    """The part of one content that is sent: all bytes from `offset` on."""

    sha256: Sha256
    size: int = Field(ge=0)
    offset: int = Field(0, ge=0)


class VariantTrial(Message):
    """How variants are measured on the device."""

    rounds: int = Field(5, ge=1)
    queries: int = Field(64, ge=1)
    warmup: int = Field(10, ge=0)


class Hello(Message):
    """Asks who the device is and what is installed there. -> `About`."""

    op: Literal["hello"] = "hello"
    root: str = DEFAULT_ROOT


class Have(Message):
    """Asks which of these contents are there, and how many bytes of the others. -> `Held`."""

    op: Literal["have"] = "have"
    root: str = DEFAULT_ROOT
    files: tuple[RequestedFile, ...]


class Receive(Message):
    """Receives the pieces that follow on standard input; each complete one gives an event `received`. -> `{}`."""

    op: Literal["receive"] = "receive"
    root: str = DEFAULT_ROOT
    pieces: tuple[Piece, ...]


class Install(Message):
    """Lays the bundle out, checks, tries and measures it, and switches where a variant passes. -> `Installed`."""

    op: Literal["install"] = "install"
    root: str = DEFAULT_ROOT
    device: str
    """Name of the device on the workstation; the report is named after it."""
    files: tuple[RequestedFile, ...]
    trial: VariantTrial = VariantTrial()


class Rollback(Message):
    """Checks the other slot and switches to it. -> `Status`."""

    op: Literal["rollback"] = "rollback"
    root: str = DEFAULT_ROOT


class AskStatus(Message):
    """Asks which slot serves and what both slots hold. -> `Status`."""

    op: Literal["status"] = "status"
    root: str = DEFAULT_ROOT
    thorough: bool = False
    """Whether every file is hashed and the signature checked, as when a bundle is loaded. Otherwise only records, presence and
    sizes of files are checked."""


class AskKind(Message):
    """Asks what kind of model serves. -> `Kind`. Agents of version 0.1 do not know this request."""

    op: Literal["kind"] = "kind"
    root: str = DEFAULT_ROOT


class Pin(Message):
    """Trusts a public key (PEM) from now on, under that name. -> `{}`."""

    op: Literal["pin"] = "pin"
    name: str
    pem: str


AnyRequest = Annotated[Hello | Have | Receive | Install | Rollback | AskStatus | AskKind | Pin, Field(discriminator="op")]
REQUEST: TypeAdapter[Hello | Have | Receive | Install | Rollback | AskStatus | AskKind | Pin] = TypeAdapter(AnyRequest)


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
    """Name -> version of each installed runtime."""
    free_bytes: int = Field(ge=0, lt=1 << 63)
    trusted: tuple[str, ...]
    """Fingerprints of the keys that this device trusts."""
    serving: Sha256 | None
    """sha256 of the manifest (edgebert.json) of the bundle that serves; None where none does."""


class Held(Message):
    """Answer to `have`: sha256 -> bytes on the device, the whole size if complete. Absent contents have no key."""

    bytes_there: dict[str, int]


class Tried(Message):
    """Result of trying one variant on the device."""

    variant: str
    self_test: Literal["ok", "differs", "untested"]
    p50_ms: float | None
    p90_ms: float | None
    passed: bool
    reason: str
    """Why it did not pass, or the gates that it meets."""


class Installed(Message):
    """Answer to `install`."""

    outcome: Literal["switched", "refused", "unchanged"]
    """unchanged: the same bundle served already. refused: no variant passed, and the device serves what it did before."""
    slot: Literal["a", "b"] | None
    variant: str | None
    tried: tuple[Tried, ...]
    reasons: tuple[str, ...]
    report: dict[str, Any] | None
    """Report of the measurements on the device, in the form of report.json."""


class Slot(Message):
    """One filled slot."""

    slot: Literal["a", "b"]
    bundle: str
    """Name of its bundle."""
    manifest: Sha256
    """sha256 of its edgebert.json."""
    variant: str
    p50_ms: float | None
    signed_by: str
    """Fingerprint of the key, identity of the certificate, or `unsigned`."""
    installed: str
    """Time of the installation by the device's clock, ISO 8601 with time zone."""
    fault: str | None = None
    """Why the slot cannot serve; None where it can."""


class Status(Message):
    """Answer to `status` and `rollback`."""

    root: str
    serving: Literal["a", "b"] | None
    slots: tuple[Slot, ...]


class Kind(Message):
    """Answer to `kind`: what whoever asks the model has to know of it. Without a bundle that serves, all fields are empty."""

    bundle: str = ""
    """Name of the bundle."""
    task: str = ""
    inputs: tuple[str, ...] = ()
    """Names of the columns that a request has."""
    labels: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    """The task's options that change what answers are, such as an embedding's prompt, where they are not at their defaults."""
    made: str | None = None
    """When the bundle was written, ISO 8601 in UTC; None where it does not say."""


class Note(Message):
    """A line for the user."""

    event: Literal["note"] = "note"
    line: str


class Advance(Message):
    """Progress of a long step."""

    event: Literal["advance"] = "advance"
    title: str
    done: float
    total: float | None = None


class Received(Message):
    """A content has arrived completely, and its hash is right."""

    event: Literal["received"] = "received"
    sha256: Sha256


class Result(Message):
    """The answer; the last event."""

    event: Literal["result"] = "result"
    value: dict[str, Any]


class ReportedFailure(Message):
    """The error that took the place of an answer; the last event."""

    event: Literal["error"] = "error"
    kind: str
    """Name of its class in edgebert.errors."""
    message: str
    hint: str | None = None


AnyEvent = Annotated[Note | Advance | Received | Result | ReportedFailure, Field(discriminator="event")]
EVENT: TypeAdapter[Note | Advance | Received | Result | ReportedFailure] = TypeAdapter(AnyEvent)
