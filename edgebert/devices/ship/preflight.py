"""Preflight: checks that a device can take a bundle before a byte of it is sent."""

from __future__ import annotations

from collections.abc import Sequence

from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.devices.agent.disk import MARGIN
from edgebert.devices.agent.protocol import About, Piece
from edgebert.devices.ship.payload import Payload
from edgebert.errors import EnvironmentFault, TrustError


def check_fits(about: About, payload: Payload, device: str) -> None:
    """Refuses a bundle that could only fail on the device later.

    Raises:
        EnvironmentFault: no candidate can run there.
        TrustError: the device does not trust the bundle's signer.
    """
    _check_runs(about, payload.manifest, device)
    _check_trusts(about, payload, device)


def check_room(free_bytes: int, pieces: Sequence[Piece], device: str) -> None:
    """Refuses pieces that the device's disk cannot hold.

    Raises:
        EnvironmentFault: the disk is too full.
    """
    if (needed := needed_bytes(pieces)) > free_bytes:
        raise EnvironmentFault(
            f"{device} has {free_bytes / 1e6:.1f} MB free; the missing part of the bundle needs {needed / 1e6:.1f} MB.",
            hint="Make room there, then ship again.",
        )


def needed_bytes(pieces: Sequence[Piece]) -> int:
    """Free bytes on the device that the pieces need, the agent's margin included."""
    return sum(piece.size - piece.offset for piece in pieces) + MARGIN


def _check_runs(about: About, manifest: BundleManifest, device: str) -> None:
    candidates = [variant for variant in manifest.variants if variant.role == "candidate"]
    obstacles = [_obstacle(variant, about) for variant in candidates]
    if candidates and all(obstacles):
        reasons = "; ".join(
            f"{variant.name}: {reason}" for variant, reason in zip(candidates, obstacles, strict=True) if reason
        )
        raise EnvironmentFault(f"No candidate of the bundle can run on {device}: {reasons}.", hint=_way_out(candidates, about))


def _obstacle(variant: ManifestEntry, about: About) -> str | None:
    """Why a variant cannot run on the device; None where it can."""
    if variant.target.runtime not in about.runtimes:
        return f"{variant.target.runtime} is not installed there"
    if variant.requires_isa and not set(variant.requires_isa) & set(about.isas):
        return f"its CPU ({about.cpu}) has none of {', '.join(variant.requires_isa)}"
    return None


def _way_out(candidates: Sequence[ManifestEntry], about: About) -> str:
    absent = sorted({variant.target.runtime for variant in candidates} - set(about.runtimes))
    if absent:
        return f"Install {' or '.join(absent)} there, or compress for a runtime that it has."
    return "Compress with `isa` in the recipe's targets, such as `isa: avx2`."


def _check_trusts(about: About, payload: Payload, device: str) -> None:
    """Checks keys only: whether the device trusts a certificate or a sigstore identity, it finds out itself."""
    if payload.key and payload.key not in about.trusted:
        raise TrustError(
            f"{device} does not trust the key that signed the bundle: {payload.key} ({payload.signer.name}).",
            hint="Sign the bundle as yours (edgebert keys sign BUNDLE): `edgebert devices setup` brings your key there. "
            "Or have the device trust its signer, there: edgebert keys trust FILE --name NAME",
        )
