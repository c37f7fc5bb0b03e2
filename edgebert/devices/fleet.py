"""Fleet: a YAML file that names devices, with the address and the labels of each.

parallel: 8                      # devices at a time
devices:
  kitchen:
    address: pi@kitchen          # host, user@host, ssh://user@host:port, or a folder of this machine
    labels: {room: kitchen, board: pi5}
  attic:
    address: ssh://pi@10.0.0.7:2222
    path: models                 # folder there; edgebert by default
    python: /usr/bin/python3.12  # runs edgebert there; by default what `devices setup` installs
    identity: ~/.ssh/attic       # private key, where ~/.ssh/config and the agent do not know it
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from edgebert.core.files import local_path
from edgebert.core.strict import Strict
from edgebert.core.yaml_file import Kind, Path_, YamlDocument, parse_yaml, problems_of, read_text, without_repeats
from edgebert.devices.transport.address import LocalAddress, SshAddress, parse_address, remote_root
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.open_device import device_at
from edgebert.errors import FleetError, InputError, Problem

FLEET = Kind("a fleet", FleetError, "ship")
PARALLEL = 4
"""Devices at a time, by default."""
SECRETS = ("password", "passwd", "passphrase", "pass", "pwd", "secret", "sudo_password")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = r"^[A-Za-z0-9][A-Za-z0-9._/ -]{0,63}$"


def _number_as_text(value: Any) -> Any:
    """Takes `floor: 2` as `floor: "2"`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Label = Annotated[str, BeforeValidator(_number_as_text), Field(pattern=_LABEL)]


class FleetDevice(Strict):
    """One device of the file."""

    address: str
    labels: dict[Annotated[str, Field(pattern=_LABEL)], Label] = Field({})
    path: str | None = None
    python: str | None = None
    identity: str | None = None


class FleetFile(Strict):
    """The whole file."""

    devices: dict[str, FleetDevice] = Field(min_length=1)
    parallel: int = Field(PARALLEL, ge=1, le=64)


@dataclass(frozen=True)
class Fleet:
    """The devices of a file, in the file's order."""

    path: Path
    devices: tuple[Device, ...]
    parallel: int


def load_fleet(path: Path) -> Fleet:
    """Reads a fleet; connects to no device.

    Raises:
        FleetError: with every problem of the file.
        InputError: the file cannot be read.
    """
    local_path(str(path), Path.cwd())  # raises where the system refuses such a name
    document = parse_yaml(read_text(path, FLEET), str(path), FLEET)
    if not isinstance(document.value, dict):
        hint = "For example: {devices: {kitchen: {address: pi@kitchen}}}"
        raise FleetError(str(path), [Problem("", "a fleet is a mapping with `devices`.", 1, hint)])
    problems = list(_secrets(document))
    file = _validate(document, problems)
    devices: list[Device] = []
    for name, entry in file.devices.items() if file else ():
        try:
            devices.append(_device(name, entry, path))
        except InputError as error:
            problems.append(Problem(f"devices.{name}", error.message, document.line(("devices", name)), error.hint))
    if file:
        problems += _names(file, document)
    if problems or file is None:
        raise FleetError(str(path), without_repeats(problems))
    return Fleet(path, tuple(devices), file.parallel)


def _validate(document: YamlDocument, problems: list[Problem]) -> FleetFile | None:
    try:
        return FleetFile.model_validate_json(json.dumps(document.value))
    except ValidationError as error:
        known = {problem.path for problem in problems}
        problems += [problem for problem in problems_of(document, error, _fields_at) if problem.path not in known]
        return None


def _secrets(document: YamlDocument) -> Iterator[Problem]:
    """Problems of keys that hold a password, which must not stay in the file."""
    devices = document.value.get("devices")
    for name, entry in devices.items() if isinstance(devices, dict) else ():
        for key in entry if isinstance(entry, dict) else ():
            if _is_secret(key):
                line = document.line(("devices", name, key))
                hint = "Let the device know your public key once (ssh-copy-id), and take it out of the file."
                yield Problem(f"devices.{name}.{key}", "a password has no place here, and is never sent.", line, hint)


def _is_secret(key: str) -> bool:
    """Whether a key, misspelt or not, looks like one for a password."""
    word = key.lower().replace("-", "_")
    return key not in FleetDevice.model_fields and bool(difflib.get_close_matches(word, SECRETS, n=1, cutoff=0.8))


def _names(file: FleetFile, document: YamlDocument) -> Iterator[Problem]:
    for name in file.devices:
        if not NAME.fullmatch(name):
            message = f"{name!r} cannot name a device: letters, digits, `.`, `_` and `-`, at most 64."
            yield Problem(f"devices.{name}", message, document.line(("devices", name)))


def _device(name: str, entry: FleetDevice, file: Path) -> Device:
    base = file.absolute().parent
    target = f"{name} --fleet {file}"
    address = parse_address(entry.address, base=base)
    for key, value in (("path", entry.path), ("python", entry.python)):
        if value is not None and (not value.strip() or not value.isprintable() or value.startswith("-")):
            raise InputError(f"its {key} {value!r} cannot be used.")
    identity = local_path(entry.identity, base) if entry.identity and isinstance(address, SshAddress) else None
    if identity and not identity.is_file():
        raise InputError(f"its identity {identity} is not there.", hint="Name the file of a private key.")
    address = _with_path(address, entry)
    return device_at(address, name, labels={**entry.labels}, target=target, python=entry.python, identity=identity)


def _with_path(address: LocalAddress | SshAddress, entry: FleetDevice) -> LocalAddress | SshAddress:
    if entry.path is None:
        return address
    if isinstance(address, LocalAddress):
        return LocalAddress(local_path(entry.path, address.folder))
    root = remote_root(entry.path)
    if address.root not in (SshAddress(address.host).root, root):
        raise InputError(f"its address names the folder {address.root}, and its path {root}.", hint="Name it once.")
    return replace(address, root=root)


def _fields_at(path: Path_) -> Sequence[str]:
    if not path:
        return list(FleetFile.model_fields)
    return list(FleetDevice.model_fields) if len(path) == 2 and path[0] == "devices" else []


def labels_of(devices: Sequence[Device]) -> Mapping[str, list[str]]:
    """Label -> its values, in the order of the devices."""
    values: dict[str, dict[str, None]] = {}
    for device in devices:
        for label, value in device.labels.items():
            values.setdefault(label, {})[value] = None
    return {label: list(found) for label, found in values.items()}
