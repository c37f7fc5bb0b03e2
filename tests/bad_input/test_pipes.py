"""A pipe where a file is expected: refused at once, because one that nobody writes would be waited for without end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgebert.bundle.trust.config import load_trust
from edgebert.bundle.trust.keys import ensure_own_key
from edgebert.compress.run_folder import output_folder
from edgebert.core.artifact import MANIFEST
from edgebert.core.store import ArtifactStore
from edgebert.errors import EnvironmentFault, InputError, TrustError

PIPE = "it is a pipe, not a file"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration folder of a user of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "edgebert" / "keys").mkdir(parents=True)
    return tmp_path / "config" / "edgebert"


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate", "pipe"),
        ("compress", "pipe"),
        ("keys", "trust", "pipe", "--name", "a"),
        ("devices", "status", "a", "--fleet", "pipe"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_pipe_that_a_command_names_is_refused(arguments: tuple[str, ...], cli: Any, tmp_path: Path, config: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = cli(*arguments)
    assert result.code == 2, result.err
    assert PIPE in result.err, result.err


def test_a_pipe_as_a_signing_key_is_refused(bundle: Path, cli: Any, tmp_path: Path, config: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = cli("keys", "sign", bundle, "--key", "pipe")
    assert (result.code, PIPE in result.err) == (2, True), result.err


def test_a_pipe_in_the_configuration_folder_is_refused(config: Path) -> None:
    os.mkfifo(config / "trust.toml")
    with pytest.raises(TrustError, match=PIPE):
        load_trust()
    (config / "trust.toml").unlink()
    os.mkfifo(config / "pin.pub")
    (config / "trust.toml").write_text('[keys.a]\nfile = "pin.pub"\n')
    with pytest.raises(TrustError, match=PIPE):
        load_trust()
    os.mkfifo(config / "keys" / "signing.pub")
    ensure_own_key()
    assert (config / "keys" / "signing.pub").is_file()
    (config / "keys" / "signing.pem").unlink()
    os.mkfifo(config / "keys" / "signing.pem", 0o600)
    with pytest.raises(EnvironmentFault, match=PIPE):
        ensure_own_key()


def test_a_pipe_in_the_store_or_the_output_folder_is_not_waited_for(store: ArtifactStore, tmp_path: Path) -> None:
    os.mkfifo(store.root / "leases" / "a.json")
    (store.root / "artifacts" / "a").mkdir()
    os.mkfifo(store.root / "artifacts" / "a" / MANIFEST)
    assert store.find("a") is None and store.get("a") is None
    assert store.artifacts() == [] and len(store.verify()) == 1
    assert store.collect() == (0, 0)
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "run.json")
    with pytest.raises(InputError, match="left alone"), output_folder(tmp_path / "out"):
        pytest.fail("work began")


def test_a_recipe_may_come_from_a_redirected_file(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(json.dumps({"model": "x"}))
    assert "task" in cli("validate", tmp_path / "file.yaml").err
