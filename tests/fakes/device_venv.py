"""The device side in an environment of its own, made once in a test run by `edgebert devices setup` over SSH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_once import made_once, run_folder
from ssh_server import Server, make_ssh_home, started, why_not

import edgebert

CHECKOUT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@dataclass(frozen=True)
class MadeEnvironment:
    """The environment that the setup made, and the exit code and output of its command."""

    venv: Path
    wheels: Path
    code: int
    out: str
    err: str

    def lend(self, server: Server, root: str = "edgebert") -> Path:
        """Gives another server the environment as if it had been set up there. Returns the device folder."""
        folder = server.home / root
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-al", str(self.venv), str(folder / "venv")], check=True)
        return folder


@pytest.fixture(scope="session")
def made_environment(tmp_path_factory: pytest.TempPathFactory) -> MadeEnvironment:
    """Use it with `from device_venv import made_environment`. Skips where no package index is reached."""
    if reason := why_not():
        pytest.skip(reason)
    folder = made_once(run_folder(tmp_path_factory) / "device-venv", _make)
    made = json.loads((folder / "made.json").read_text())
    if "skip" in made:
        pytest.skip(made["skip"])
    return MadeEnvironment(Path(made["venv"]), folder / "wheels", made["code"], made["out"], made["err"])


def _make(folder: Path) -> None:
    (folder / "made.json").write_text(json.dumps(_set_up(folder)))


def _set_up(folder: Path) -> dict[str, object]:
    wheels = folder / "wheels"
    own = wheels / f"edgebert-{edgebert.__version__}-py3-none-any.whl"
    for command in (
        ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(CHECKOUT)],
        ["download", "--quiet", "--only-binary=:all:", "--dest", str(wheels), str(own)],
    ):
        done = subprocess.run([*PIP, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            return {"skip": f"no wheels could be had: {(done.stderr.strip().splitlines() or ['?'])[-1]}"}
    with started(folder / "server") as server:
        home = make_ssh_home(folder / "client", {"kitchen": server})
        client = {
            **{name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"},
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
        }
        command = ["devices", "setup", "kitchen:edgebert", "--wheels", str(wheels), "--offline"]
        done = subprocess.run(
            [sys.executable, "-m", "edgebert", *command], env=client, cwd=home, capture_output=True, text=True, check=False
        )
    return {"venv": str(server.home / "edgebert" / "venv"), "code": done.returncode, "out": done.stdout, "err": done.stderr}
