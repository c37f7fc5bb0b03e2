"""Energy is the sum of the packages' counters, over their wrap, and n/a where a counter cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_machines import MACHINES, Tree, amd_server, grow, intel_laptop, pi_4
from hypothesis import given
from hypothesis import strategies as st

from edgebert.measure.machine.energy import Counter, EnergyMeter, forbidden, open_meter
from edgebert.measure.machine.kernel_files import KernelFiles

RAPL = "sys/class/powercap/intel-rapl:0/energy_uj"
RANGE = 262_143_328_850
SECOND = 1_000_000_000


def second_package(energy: int) -> Tree:
    zone = "sys/class/powercap/intel-rapl:2"
    return {f"{zone}/name": "package-1", f"{zone}/energy_uj": str(energy), f"{zone}/max_energy_range_uj": str(RANGE)}


def test_rapl_counts_packages_and_neither_their_parts_nor_what_contains_them(tmp_path: Path) -> None:
    files = grow(tmp_path, intel_laptop(energy=1000) | second_package(50))
    meter = open_meter(files)
    before = meter.read()
    assert before == {RAPL: 1000, "sys/class/powercap/intel-rapl:2/energy_uj": 50}
    grow(
        tmp_path,
        {RAPL: "4000", "sys/class/powercap/intel-rapl:2/energy_uj": "60", "sys/class/powercap/intel-rapl:1/energy_uj": "99999"},
    )
    assert meter.between(before, meter.read(), SECOND) == 3010


def test_counter_that_started_again_adds_what_it_had_left(tmp_path: Path) -> None:
    meter = open_meter(grow(tmp_path, intel_laptop(energy=RANGE - 10)))
    before = meter.read()
    grow(tmp_path, {RAPL: "5"})
    assert meter.between(before, meter.read(), SECOND) == 16  # 10 up to the largest value, 1 to 0, 5 more


@given(st.integers(1, 2**40), st.data())
def test_energy_over_a_wrap_is_what_was_added(largest: int, data: st.DataObject) -> None:
    start, added = data.draw(st.integers(0, largest)), data.draw(st.integers(0, largest))
    meter = EnergyMeter((Counter("c", largest),))
    assert meter.between({"c": start}, {"c": (start + added) % (largest + 1)}, 0) == added


def test_energy_is_not_known_where_a_counter_fell_that_has_no_range(tmp_path: Path) -> None:
    files = grow(tmp_path, intel_laptop() | {"sys/class/powercap/intel-rapl:0/max_energy_range_uj": "many"})
    meter = open_meter(files)
    assert meter.between({RAPL: 10}, {RAPL: 9}, SECOND) is None
    assert meter.between({RAPL: 9}, {RAPL: 10}, SECOND) == 1


def test_hwmon_counts_sockets_and_neither_cores_nor_graphics(tmp_path: Path) -> None:
    meter = open_meter(grow(tmp_path, amd_server()))
    assert sorted(meter.read().values()) == [5000, 7000]


BOARD = {"sys/class/hwmon/hwmon0/name": "ina228", "sys/class/hwmon/hwmon0/energy1_input": "5"}
SECOND_RAIL = {"sys/class/hwmon/hwmon0/energy2_input": "6"}
OTHER_DEVICE = {"sys/class/hwmon/hwmon1/name": "ltc4282", "sys/class/hwmon/hwmon1/energy1_input": "7"}
CORES = {
    "sys/class/hwmon/hwmon2/name": "amd_energy",
    "sys/class/hwmon/hwmon2/energy1_input": "8",
    "sys/class/hwmon/hwmon2/energy2_input": "9",
}


@pytest.mark.parametrize(
    ("tree", "values"),
    [(BOARD, [5]), (BOARD | SECOND_RAIL, []), (BOARD | OTHER_DEVICE, []), (BOARD | OTHER_DEVICE | CORES, [8, 9])],
)
def test_hwmon_never_adds_up_what_may_contain_the_other(tmp_path: Path, tree: Tree, values: list[int]) -> None:
    assert sorted(open_meter(grow(tmp_path, tree)).read().values()) == values


@pytest.mark.parametrize(("seconds", "expected"), [(524, 1), (525, None), (10**6, None)])
def test_counter_that_may_have_started_again_twice_tells_nothing(seconds: int, expected: int | None) -> None:
    wraps, never = EnergyMeter((Counter("c", RANGE),)), EnergyMeter((Counter("c"),))
    assert wraps.between({"c": 4}, {"c": 5}, seconds * SECOND) == expected
    assert never.between({"c": 4}, {"c": 5}, seconds * SECOND) == 1


def test_watch_tells_what_was_taken_within_it(tmp_path: Path) -> None:
    files = grow(tmp_path, intel_laptop(energy=1000))
    with open_meter(files).watch() as watch:
        grow(tmp_path, {RAPL: "4000"})
    grow(tmp_path, {RAPL: "9000"})
    assert watch.microjoules == 3000


def test_rapl_is_preferred_to_hwmon(tmp_path: Path) -> None:
    meter = open_meter(grow(tmp_path, amd_server() | intel_laptop(energy=77)))
    assert list(meter.read().values()) == [77]


def test_counter_that_only_root_may_read_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = grow(tmp_path, intel_laptop())
    deny(monkeypatch, RAPL)
    meter = open_meter(files)
    assert meter.counters == () and forbidden(files)
    assert meter.between(meter.read(), meter.read(), SECOND) is None


def test_counter_that_becomes_unreadable_meanwhile_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = grow(tmp_path, intel_laptop() | second_package(50))
    meter = open_meter(files)
    before = meter.read()
    deny(monkeypatch, RAPL)
    assert meter.between(before, meter.read(), SECOND) is None, "half of the packages is not their energy"


def deny(monkeypatch: pytest.MonkeyPatch, forbidden_path: str) -> None:
    """As the kernel does to those who are not root; chmod would not stop root, which tests may run as."""
    read = Path.read_text

    def read_text(self: Path, *arguments: object, **options: object) -> str:
        if str(self).endswith(forbidden_path):
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)


@pytest.mark.parametrize("tree", [{}, pi_4()])
def test_machine_without_a_counter_gives_nothing(tmp_path: Path, tree: Tree) -> None:
    files = grow(tmp_path, tree)
    meter = open_meter(files)
    assert meter.between(meter.read(), meter.read(), SECOND) is None and not forbidden(files)


@pytest.mark.parametrize("make", MACHINES.values(), ids=MACHINES)
def test_damaged_counters_never_raise(tmp_path: Path, make: object) -> None:
    files = grow(tmp_path, dict.fromkeys(make(), "rubbish"))  # type: ignore[operator]
    meter = open_meter(files)
    assert meter.between(meter.read(), meter.read(), SECOND) is None


def test_this_machine_counts_upwards_or_not_at_all() -> None:
    meter = open_meter(KernelFiles())
    before = meter.read()
    found = meter.between(before, meter.read(), SECOND)
    assert (found is None) == (not meter.counters) and (found is None or found >= 0)
