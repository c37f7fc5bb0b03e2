"""Whose agent holds the lock of a root: its number means nothing in another container, so its host is named too."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebert.bundle.device_folder import Root
from edgebert.devices.agent import lock
from edgebert.errors import DeviceError


@pytest.mark.parametrize(("host", "words"), [("", r"process \d+, install"), ("pod-7", r"process \d+ of pod-7, install")])
def test_another_agent_is_named_with_its_host(host: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    root, here = Root(tmp_path), lock.platform.node()
    monkeypatch.setattr(lock.platform, "node", lambda: host or here)
    with lock.locked(root, "install"):
        monkeypatch.setattr(lock.platform, "node", lambda: here)
        with pytest.raises(DeviceError, match=words), lock.locked(root, "rollback"):
            pytest.fail("two agents at work")
