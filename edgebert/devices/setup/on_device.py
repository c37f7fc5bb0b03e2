"""The part of `devices setup` that runs on a device. It is sent there as text and needs only a Python, from 3.7 on.

python3 -c TEXT ORDER     the order is JSON; events are lines of JSON on standard output

{"do": "look", "root": ...}       -> one event: Python, machine, environment and wheels of the device
{"do": "install", "root": ...}    -> `phase` events, then `done` or `fault`
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PART = 1 << 20
OLDEST = (3, 11)
CHECK = "import edgebert.slots.agent"  # the former name of the agent, which version 0.1 has as well
MARKER = "edgebert-device.json"
MADE_OF = "edgebert-setup.json"
"""File of a complete environment that says what it was made of."""


class Fault(Exception):
    """Why the order cannot be carried out: a keyword, and words for people."""

    def __init__(self, about: str, words: str) -> None:
        super().__init__(words)
        self.about = about


def say(**event: Any) -> None:
    """Sends one event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def look(root: Path) -> dict[str, Any]:
    """Describes the device; changes nothing."""
    return {
        "python": list(sys.version_info[:3]),
        "machine": platform.machine(),
        "made_of": made_of(root / "venv"),
        "wheels": {wheel.name: sha256(wheel) for wheel in sorted((root / "wheels").glob("*.whl"))},
    }


def made_of(venv: Path) -> Any:
    """What an environment was made of; None where it is incomplete or does not run."""
    try:
        recorded = json.loads((venv / MADE_OF).read_text(encoding="utf-8"))
        runs, _ = run([python_of(venv), "-P", "-c", CHECK])
    except (OSError, ValueError):
        return None
    return recorded if runs else None


def sha256(path: Path) -> str:
    """The hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(PART), b""):
            digest.update(part)
    return digest.hexdigest()


def python_of(venv: Path) -> str:
    """The interpreter of an environment."""
    return str(venv / "bin" / "python")


def run(command: list[str]) -> tuple[bool, str]:
    """Whether a command ended with exit code 0, and its output."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0, done.stdout.decode("utf-8", "replace")


def install(root: Path, order: dict[str, Any]) -> None:
    """Makes a new environment beside the old one and then replaces it."""
    if sys.version_info[:2] < OLDEST:
        raise Fault("python", platform.python_version())
    check_root(root, order["ours"])
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Fault("busy", f"another edgebert works in {root}") from error
        venv, new, old = root / "venv", root / "venv.new", root / "venv.old"
        restore(venv, new, old)
        make(new, root / "wheels", order)
        swap(venv, new, old)
        shutil.rmtree(str(root / "wheels"), ignore_errors=True)


def check_root(root: Path, ours: list[str]) -> None:
    """Refuses a folder that holds something else."""
    if not root.is_dir():
        if os.path.lexists(str(root)):
            raise Fault("root", f"{root} is not a folder")
        return
    names = {file.name for file in root.iterdir()}
    strange = sorted(names - set(ours))
    if strange and MARKER not in names:
        raise Fault("root", f"{root} holds something else ({strange[0]})")


def restore(venv: Path, new: Path, old: Path) -> None:
    """Brings back the environment that a killed setup had moved aside, and removes what killed setups left."""
    if old.is_dir() and not venv.is_dir():
        old.rename(venv)
    for left in (new, old):
        shutil.rmtree(str(left), ignore_errors=True)


def make(venv: Path, brought: Path, order: dict[str, Any]) -> None:
    """Makes a complete environment."""
    say(phase="environment")
    made, output = run([sys.executable, "-m", "venv", str(venv)])
    if not made:
        raise Fault("venv", error_lines(output))
    wanted = str(brought / order["wheel"]) + order["extras"]
    command = [python_of(venv), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    if order["offline"]:
        command += ["--no-index"]
    pip([*command, "--find-links", str(brought), wanted])
    say(phase="check")
    runs, output = run([python_of(venv), "-P", "-c", CHECK])
    if not runs:
        raise Fault("check", error_lines(output))
    with (venv / MADE_OF).open("w", encoding="utf-8") as file:
        json.dump(order["made_of"], file)
        file.flush()
        os.fsync(file.fileno())


def pip(command: list[str]) -> None:
    """Runs pip and sends its progress as events."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        assert running.stdout is not None
        lines: list[str] = []
        about = "pip"
        for line in running.stdout:
            lines = [*lines, line.decode("utf-8", "replace")][-30:]
            if "Retrying (" in lines[-1] or "Could not fetch URL" in lines[-1]:
                about = "network"
            words = lines[-1].split()
            if words[:1] in (["Collecting"], ["Downloading"], ["Processing"]) and len(words) > 1:
                say(phase=words[0].lower(), what=words[1].rpartition("/")[2])
            elif words[:1] == ["Installing"]:
                say(phase="installing")
    if running.returncode:
        raise Fault(about, error_lines("".join(lines)))


def error_lines(text: str) -> str:
    """The first two lines that report an error, else the last two lines of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return " ".join(errors[:2] or lines[-2:])[:600]


def swap(venv: Path, new: Path, old: Path) -> None:
    """Replaces the old environment by the new one, whose scripts are edited to name their final path."""
    here, there = os.fsencode(str(new)), os.fsencode(str(venv))
    for script in (new / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        text = script.read_bytes()
        if here in text:
            script.write_bytes(text.replace(here, there))
    if venv.is_dir():
        venv.rename(old)
    new.rename(venv)
    shutil.rmtree(str(old), ignore_errors=True)


def main() -> None:
    """Carries out the order."""
    order = json.loads(sys.argv[1])
    root = Path(os.path.normpath(Path.home() / Path(order["root"]).expanduser()))
    try:
        if order["do"] == "look":
            say(**look(root))
        else:
            install(root, order)
            say(done=True)
    except Fault as fault:
        say(fault=str(fault), about=fault.about)
    except OSError as error:
        say(fault=str(error), about="disk")


if __name__ == "__main__":
    main()
