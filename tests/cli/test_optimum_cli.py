"""`optimum-cli edgebert` is edgebert's command line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("optimum.commands.register") is None,
    reason="the registration is a file of the wheel, which an editable install lacks",
)


def optimum_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("optimum-cli")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_optimum_cli_hands_arguments_and_exit_codes_through() -> None:
    listed = optimum_cli("--help")
    assert listed.returncode == 0 and "edgebert" in listed.stdout
    valid = optimum_cli("edgebert", "validate", "quickstart", "--set", "seed=3")
    assert (valid.returncode, valid.stdout) == (0, "quickstart: valid\n"), valid.stderr
    unknown = optimum_cli("edgebert", "validate", "no-such-recipe")
    assert unknown.returncode == 2 and "error: " in unknown.stderr
