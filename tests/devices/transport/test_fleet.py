"""The fleet's file, and which of its devices a command is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebert.devices.fleet import load_fleet
from edgebert.devices.targets import Chosen, choose
from edgebert.devices.transport.local import LocalDevice
from edgebert.devices.transport.ssh import SshDevice
from edgebert.errors import FleetError, InputError

FLEET = """
parallel: 2
devices:
  kitchen:
    address: pi@kitchen
    labels: {room: kitchen, board: pi5, floor: 0}
  attic:
    address: ssh://pi@192.0.2.7:2222
    labels: {room: attic, board: pi5, floor: 1}
    path: models/bert
    python: /usr/bin/python3.12
    identity: keys/attic
  desk:
    address: ./desk
    labels: {room: study, board: x86}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A file with three devices."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "attic").touch()
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_devices_come_in_the_order_of_the_file_with_all_that_it_says(fleet: Path) -> None:
    loaded = load_fleet(fleet)
    kitchen, attic, desk = loaded.devices
    assert loaded.parallel == 2
    assert isinstance(kitchen, SshDevice) and isinstance(attic, SshDevice) and isinstance(desk, LocalDevice)
    assert (kitchen.name, kitchen.root, kitchen.address.host, kitchen.address.user) == ("kitchen", "edgebert", "kitchen", "pi")
    assert kitchen.labels == {"room": "kitchen", "board": "pi5", "floor": "0"}
    assert kitchen.pythons == ("~/edgebert/venv/bin/python", "python3")
    assert (attic.root, attic.address.port, attic.python) == ("models/bert", 2222, "/usr/bin/python3.12")
    assert attic.pythons == ("/usr/bin/python3.12",)
    assert attic._identity == fleet.parent / "keys" / "attic"
    assert desk.root == str(fleet.parent / "desk")  # from the file, wherever the command runs
    assert kitchen.target == f"kitchen --fleet {fleet}"


def test_every_problem_comes_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("""parallel: 100
devices:
  kitchen:
    adress: pi@kitchen
  attic:
    address: pi@attic
    password: hunter2
  cellar:
    address: pi@cellar
    labels: {room: [a, b]}
colour: red
""")
    with pytest.raises(FleetError) as error:
        load_fleet(path)
    text = str(error.value)
    for part in (
        "line 1: parallel:",
        "line 4: devices.kitchen.adress: unknown key. Did you mean `address`?",
        "devices.kitchen.address: is missing",
        "line 7: devices.attic.password: a password has no place here",
        "line 10: devices.cellar.labels.room:",
        "line 11: colour: unknown key.",
    ):
        assert part in text, text
    assert "hunter2" not in text


REFUSED = {
    "": "a fleet is a mapping",
    "[1, 2]": "a fleet is a mapping",
    "devices: {}": "at least",
    "devices: {kitchen: {address: 'pi:secret@kitchen'}}": "password",
    "devices: {'a b': {address: kitchen}}": "cannot name a device",
    "devices: {-x: {address: kitchen}}": "cannot name a device",
    "devices: {'a\\nb': {address: kitchen}}": "cannot name a device",
    "devices: {kitchen: {address: '-oProxyCommand=x'}}": "looks like an option",
    "devices: {kitchen: {address: kitchen, path: ../x}}": "leads upwards",
    "devices: {kitchen: {address: 'kitchen:a', path: b}}": "Name it once",
    "devices: {kitchen: {address: kitchen, python: -c}}": "its python '-c' cannot be used",
    "devices: {kitchen: {address: kitchen, identity: gone}}": "is not there",
    "devices: {kitchen: {address: kitchen, labels: {room: 1.5}}}": "labels.room",
    "devices: {kitchen: {address: kitchen, labels: {'a=b': x}}}": "labels",
    "devices: {kitchen: {address: kitchen}, kitchen: {address: attic}}": "duplicate key",
    "devices: {kitchen: {address: kitchen}}\nparallel: 0": "parallel",
    "devices: {kitchen: {address: kitchen}}\nparallel: yes please": "parallel",
    "devices: [": "not valid YAML",
    "devices: {kitchen: !!python/object:os.system {}}": "devices.kitchen: has the tag .* which means nothing here",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_file_is_refused_in_words(text: str, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    with pytest.raises(FleetError, match=REFUSED[text]) as error:
        load_fleet(path)
    assert "Traceback" not in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["gone.yaml", "folder", "latin.yaml"])
def test_a_file_that_cannot_be_read_is_reported(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"devices: {k\xfcche: {address: x}}")
    with pytest.raises(InputError) as error:
        load_fleet(tmp_path / name)
    assert error.value.hint


def test_a_missing_file_is_reported_with_the_one_that_was_meant(fleet: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file") as error:
        load_fleet(fleet.with_suffix(".yml"))
    assert error.value.hint == f"Did you mean {fleet}?"
    with pytest.raises(InputError) as error:
        load_fleet(fleet.parent / "gone" / "fleet.yaml")
    assert "There is no folder" in str(error.value.hint)


@pytest.mark.parametrize("key", ["password", "Password", "pasword", "passwrd", "sudo-password", "pwd"])
def test_a_password_is_answered_however_its_key_is_spelt(key: str, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(f"devices: {{kitchen: {{address: kitchen, {key}: hunter2}}}}\n")
    with pytest.raises(FleetError, match="has no place here") as error:
        load_fleet(path)
    assert "hunter2" not in str(error.value) and "Known" not in str(error.value)


def names(chosen: Chosen) -> list[str]:
    return [device.name for device in chosen.devices]


def test_labels_choose_and_all_must_hold(fleet: Path) -> None:
    assert names(choose((), fleet=fleet)) == ["kitchen", "attic", "desk"]
    assert names(choose((), fleet=fleet, only=["board=pi5"])) == ["kitchen", "attic"]
    assert names(choose((), fleet=fleet, only=["board=pi5", "room=attic"])) == ["attic"]
    assert names(choose((), fleet=fleet, only=["floor=0"])) == ["kitchen"]
    assert names(choose((), fleet=fleet, only=["name=desk"])) == ["desk"]
    assert choose((), fleet=fleet).parallel == 2


def test_names_choose_in_the_order_of_the_file_and_addresses_join_them(fleet: Path) -> None:
    assert names(choose(["desk", "kitchen"], fleet=fleet)) == ["kitchen", "desk"]
    assert names(choose(["kitchen", "pi@cellar"], fleet=fleet)) == ["kitchen", "pi@cellar"]
    assert names(choose(["kitchen", "desk"], fleet=fleet, only=["board=x86"])) == ["desk"]


def test_a_slip_in_a_name_does_not_become_a_host(fleet: Path) -> None:
    with pytest.raises(InputError, match="kitchn is no device of ") as error:
        choose(["kitchn"], fleet=fleet)
    assert "Did you mean `kitchen`?" in str(error.value.hint) and "ssh://host" in str(error.value.hint)
    others = ["ssh://cellar", "pi@cellar", "cellar:models", "./cellar"]
    assert names(choose(others, fleet=fleet)) == others


def test_a_choice_without_a_device_lists_what_there_is(fleet: Path) -> None:
    with pytest.raises(InputError, match=r"No device of .* has room=hall and board=pi5") as error:
        choose((), fleet=fleet, only=["room=hall", "board=pi5"])
    assert error.value.hint == ("There is: room=kitchen|attic|study, board=pi5|x86, floor=0|1, name=kitchen|attic|desk.")
    with pytest.raises(InputError, match="is no label=value"):
        choose((), fleet=fleet, only=["room"])


def test_a_choice_needs_something_to_choose_from() -> None:
    with pytest.raises(InputError, match="No device is named"):
        choose(())
    with pytest.raises(InputError, match="there is none"):
        choose(["kitchen"], only=["room=kitchen"])


def test_one_device_is_not_taken_twice(fleet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kitchen is named twice"):
        choose(["pi@kitchen:x", "kitchen", "kitchen"])
    with pytest.raises(InputError, match="are one folder of one device"):
        choose(["kitchen", "pi@kitchen"], fleet=fleet)
    with pytest.raises(InputError, match="are one folder of one device"):
        choose([str(tmp_path / "a"), f"{tmp_path}/./a"])
    assert len(choose(["pi@kitchen:a", "pi@kitchen:b"]).devices) == 2
