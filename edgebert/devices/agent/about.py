"""About: who a device is, what it computes with, whom it trusts, and what serves there."""

from __future__ import annotations

import platform

from edgebert.bundle.device_folder import MANIFEST, Root, check_marker
from edgebert.bundle.trust.config import trusted_fingerprints
from edgebert.core.packages import package_version
from edgebert.core.store import hash_file
from edgebert.devices.agent.disk import free_bytes
from edgebert.devices.agent.protocol import PROTOCOL, About
from edgebert.measure.machine.environment import read_environment
from edgebert.runtimes import RUNTIMES
from edgebert.version import __version__


def read_about(root: Root) -> About:
    """Looks at this machine and at a root, which need not be there yet. Nothing is written.

    Raises:
        DeviceError: the folder is something else, or was made by a newer edgebert.
        TrustError: the device's own configuration of trust cannot be read.
    """
    check_marker(root)
    slot, environment = root.serving(), read_environment()
    return About(
        protocol=PROTOCOL,
        edgebert_version=__version__,
        python=platform.python_version(),
        machine=platform.machine(),
        cpu=environment.cpu,
        isas=environment.isa,
        runtimes={item.name: package_version(item.package) for item in RUNTIMES if item.available()},
        free_bytes=free_bytes(root.folder),
        trusted=trusted_fingerprints(),
        serving=hash_file(root.slot(slot) / MANIFEST) if slot else None,
    )
