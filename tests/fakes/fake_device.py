"""A device in memory that answers the protocol, and loses its connection at chosen moments."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from edgebert.devices.agent.protocol import (
    PROTOCOL,
    About,
    AskKind,
    AskStatus,
    Have,
    Held,
    Hello,
    Install,
    Installed,
    Kind,
    Receive,
    Received,
    Rollback,
    Slot,
    Status,
    Tried,
)
from edgebert.devices.transport.base import Device, OnEvent
from edgebert.errors import DeviceError, DeviceLost


@dataclass
class FakeDevice(Device):
    """Holds contents and two slots. `lose` names requests before which, or numbers of bytes after which, it is lost."""

    name: str
    root: str = "edgebert"
    labels: dict[str, str] = field(default_factory=dict)
    host: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    outcome: str = "switched"
    lose: list[str | int] = field(default_factory=list)
    unreachable: int = 0
    """Number of the next openings that fail."""
    report: dict[str, Any] | None = None
    manifests: list[str] = field(default_factory=list)
    """sha256 of the manifests in its slots; the last one serves."""
    parts: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    kind: Kind | None = field(default_factory=Kind)
    """Task, inputs and labels of the model that serves; None on a device whose agent is too old to answer `kind`."""
    during: Callable[[], Any] | None = None
    """Awaited while it installs."""

    @property
    def machine(self) -> str:
        """Name of its machine."""
        return self.host or self.name

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeDevice]:  # type: ignore[override]
        """Opens a connection."""
        if self.unreachable:
            self.unreachable -= 1
            raise DeviceError(f"{self.name} cannot be reached.", hint="Is it on?")
        yield self

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """Answers as the agent does."""
        op = request.op  # type: ignore[attr-defined]
        self.asked.append(op)
        if self.lose and self.lose[0] == op:
            self.lose.pop(0)
            raise DeviceLost(f"The connection to {self.name} ended.")
        answer = await getattr(self, f"_{op}")(request, body, on_event)
        if self.lose and self.lose[0] == f"after {op}":
            self.lose.pop(0)
            raise DeviceLost(f"The connection to {self.name} ended.")
        return dict(answer.model_dump(mode="json") if answer else {})

    async def _hello(self, request: Hello, *_: Any) -> About:
        known = {
            "protocol": PROTOCOL,
            "edgebert_version": "0",
            "python": "3.11",
            "machine": "x86_64",
            "cpu": "a CPU",
            "isas": ("avx2", "avx512_vnni"),
            "runtimes": {"onnxruntime": "1"},
            "free_bytes": 10**12,
            "trusted": (),
            "serving": self.manifests[-1] if self.manifests else None,
        }
        return About(**{**known, **self.about})

    async def _have(self, request: Have, *_: Any) -> Held:
        return Held(
            bytes_there={file.sha256: len(self.parts[file.sha256]) for file in request.files if file.sha256 in self.parts}
        )

    async def _receive(self, request: Receive, body: AsyncIterator[bytes], on_event: OnEvent) -> None:
        ahead, ends = b"", self.lose.pop(0) if self.lose and isinstance(self.lose[0], int) else None
        for piece in request.pieces:
            assert len(self.parts.get(piece.sha256, b"")) == piece.offset
            self.parts.setdefault(piece.sha256, b"")
            while len(self.parts[piece.sha256]) < piece.size:
                ahead = ahead or await anext(body)
                wanted = piece.size - len(self.parts[piece.sha256])
                taken = ahead[:wanted] if ends is None else ahead[: min(wanted, ends)]
                self.parts[piece.sha256] += taken
                ahead = ahead[len(taken) :]
                if ends is not None:
                    ends -= len(taken)
                    if ends <= 0:
                        raise DeviceLost(f"The connection to {self.name} ended.")
            assert hashlib.sha256(self.parts[piece.sha256]).hexdigest() == piece.sha256
            on_event(Received(sha256=piece.sha256))
        assert not ahead and [chunk async for chunk in body] == []

    async def _install(self, request: Install, *_: Any) -> Installed:
        assert all(len(self.parts[file.sha256]) == file.size for file in request.files)
        if self.during:
            await self.during()
        identity = next(file.sha256 for file in request.files if file.path == "edgebert.json")
        if self.manifests[-1:] == [identity]:
            return Installed(outcome="unchanged", slot="a", variant="v", tried=(), reasons=(), report=self.report)
        passed = self.outcome == "switched"
        if passed:
            self.manifests.append(identity)
        tried = Tried(variant="v", self_test="ok", p50_ms=2.0, p90_ms=3.0, passed=passed, reason="speedup >= 9: 1.0, missed")
        return Installed(
            outcome=self.outcome,
            slot="a" if passed else None,
            variant="v" if passed else None,
            tried=(tried,),
            reasons=() if passed else ("no variant passed",),
            report=self.report,
        )

    async def _rollback(self, request: Rollback, *_: Any) -> Status:
        if len(self.manifests) < 2:
            raise DeviceError(f"{self.name} has no other slot.")
        self.manifests.pop()
        return await self._status(AskStatus())

    async def _kind(self, request: AskKind, *_: Any) -> Kind:
        if self.kind is None:
            raise DeviceError("The agent does not know this request (protocol 1): op: unknown.", hint="Set it up again.")
        return self.kind

    async def _status(self, request: AskStatus, *_: Any) -> Status:
        slots = tuple(
            Slot(
                slot=slot, bundle="b", manifest=manifest, variant="v", p50_ms=2.0, signed_by="unsigned", installed="2026-01-01"
            )
            for slot, manifest in zip("ab", self.manifests[-2:], strict=False)
        )
        return Status(root=self.root, serving=slots[-1].slot if slots else None, slots=slots)

    async def run(self, arguments: Any, *, on_line: Any = None) -> Any:
        """Shipping runs no commands."""
        raise NotImplementedError

    async def put(self, source: Any, target: str) -> None:
        """Shipping copies no files."""
        raise NotImplementedError


class Together:
    """Counts the calls that are under way at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1
