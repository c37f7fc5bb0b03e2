"""The environment and the machine's state are what the kernel's files say, and None where they say nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_machines import MACHINES, Tree, amd_server, container, grow, intel_laptop, old_container, pi_4, pi_5, proc, siblings
from hypothesis import given
from hypothesis import strategies as st

from edgebert.measure.machine import cgroup
from edgebert.measure.machine.cores import Topology, cores_to_pin, read_topology
from edgebert.measure.machine.environment import read_environment
from edgebert.measure.machine.kernel_files import KernelFiles, parse_cores
from edgebert.measure.machine.machine_state import read_state
from edgebert.report.environment import Environment, MachineState


def environment_of(root: Path, tree: Tree) -> Environment:
    return read_environment(grow(root, tree))


def test_environment_of_a_raspberry_pi_is_read(tmp_path: Path) -> None:
    found = environment_of(tmp_path, pi_4())
    assert found.cpu == found.board == "Raspberry Pi 4 Model B Rev 1.2"
    assert found.isa == ("arm-neon",) and found.flags == ("asimd", "cpuid", "crc32", "fp")
    assert found.core_kinds == ("Cortex-A72",) and found.threads_per_core == 1
    assert found.governor == "ondemand" and found.max_mhz == 1500 and found.turbo is None
    assert found.virtual is False and found.clock == "arch_sys_counter" and found.memory_bytes == 8_000_000 * 1024
    assert (found.huge_pages, found.autogroup, found.load_average) == ("madvise", True, 0.25)


def test_environment_of_an_intel_laptop_is_read(tmp_path: Path) -> None:
    found = environment_of(tmp_path, intel_laptop())
    assert found.cpu == "Intel(R) Core(TM) i5" and found.board == "LENOVO 20XW" and found.virtual is False
    assert found.threads_per_core == 2 and found.turbo is True
    assert (found.governor, found.energy_preference) == ("powersave", "balance_power")
    assert found.boot_options == ("mitigations=off", "isolcpus=3")


def test_environment_of_an_amd_server_is_read(tmp_path: Path) -> None:
    found = environment_of(tmp_path, amd_server())
    assert (found.turbo, found.governor, found.clock, found.isolated) == (False, "performance", "hpet", (2, 3))
    assert "avx512_vnni" in found.isa


def test_environment_names_the_parts_of_an_arm_server_that_has_no_model_name(tmp_path: Path) -> None:
    parts = "".join(
        f"processor\t: {core}\nFeatures\t: asimd\nCPU part\t: {part}\n\n" for core, part in enumerate(("0xd0c", "0xabc"))
    )
    found = environment_of(tmp_path, proc(parts))
    assert found.cpu == "ARM part 0xabc + Neoverse-N1"


def test_governors_that_differ_are_mixed(tmp_path: Path) -> None:
    tree = pi_4() | {"sys/devices/system/cpu/cpu2/cpufreq/scaling_governor": "performance"}
    assert environment_of(tmp_path, tree).governor == "mixed"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sys/hypervisor/type": "xen"}, True),
        ({"sys/class/dmi/id/product_name": "VMware Virtual Platform"}, True),
        ({"proc/device-tree/hypervisor/compatible": "linux,kvm"}, True),
        ({"proc/device-tree/model": "linux,dummy-virt\0"}, True),
        ({"sys/class/dmi/id/product_name": "PowerEdge R640"}, False),
        ({}, None),
    ],
)
def test_virtual_machine_is_known_by_what_it_says_of_itself(tmp_path: Path, change: Tree, expected: bool | None) -> None:
    arm = proc("processor\t: 0\nFeatures\t: asimd\n")
    assert environment_of(tmp_path, arm | change).virtual is expected


def test_state_of_a_raspberry_pi_is_read(tmp_path: Path) -> None:
    assert read_state(grow(tmp_path, pi_5(flags="50004"))) == MachineState(
        load_average=0.25,
        frequencies_mhz=(600, 600, 600, 600),
        temperature_c=51.1,
        firmware_flags=0x50004,
        stolen_ticks=0,
        busy_ticks=160,
        available_bytes=6_000_000 * 1024,
        swap_used_bytes=100_000 * 1024,
        swapped_pages=7,
    )


def test_state_of_an_intel_laptop_is_read(tmp_path: Path) -> None:
    found = read_state(grow(tmp_path, intel_laptop(count=7)))
    assert found.throttle_count == 4 * 1 + 7  # a package tells the same count at each of its cores
    assert found.on_battery is True and found.capped is False


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, True), ({"AC/online": "1"}, False), ({"BAT0/status": "Charging"}, False), ({"BAT0/scope": "Device"}, None)],
)
def test_battery_counts_only_where_it_feeds_the_machine(tmp_path: Path, change: Tree, expected: bool | None) -> None:
    tree = intel_laptop() | {f"sys/class/power_supply/{path}": text for path, text in change.items()}
    assert read_state(grow(tmp_path, tree)).on_battery is expected


def test_limits_of_a_container_and_of_those_around_it_hold_together(tmp_path: Path) -> None:
    files = grow(tmp_path, container())
    assert list(cgroup.groups(files, "cpu")) == ["sys/fs/cgroup/abc", "sys/fs/cgroup"]
    found = read_environment(files)
    assert (found.cpu_quota, found.memory_limit_bytes, found.virtual) == (0.5, 1 << 30, True)
    state = read_state(files)
    assert (state.quota_throttled_us, state.stolen_ticks) == (7500, 42)


def test_limits_of_cgroup_version_1_are_read(tmp_path: Path) -> None:
    files = grow(tmp_path, old_container())
    assert (cgroup.cpu_quota(files), cgroup.memory_limit(files), cgroup.throttled_us(files)) == (2.0, 512 << 20, 3000)


@pytest.mark.parametrize(
    ("name", "text"),
    [("cpu.cfs_quota_us", "-1"), ("cpu.cfs_period_us", "0"), ("cpu.cfs_quota_us", "many"), ("cpu.max", "max 100000")],
)
def test_quota_that_limits_nothing_is_none(tmp_path: Path, name: str, text: str) -> None:
    files = grow(tmp_path, old_container() | {f"sys/fs/cgroup/cpu,cpuacct/{name}": text})
    assert cgroup.cpu_quota(files) is None


def test_memory_without_a_limit_in_version_1_is_none(tmp_path: Path) -> None:
    files = grow(tmp_path, old_container() | {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(9223372036854771712)})
    assert cgroup.memory_limit(files) is None


def test_system_without_any_files_gives_none_everywhere(tmp_path: Path) -> None:
    assert read_state(KernelFiles(tmp_path)) == MachineState()
    found = read_environment(KernelFiles(tmp_path))
    always = {"cpu", "isa", "cores", "machine", "system", "python", "packages", "variables"}
    rest = found.model_dump(exclude=always)
    assert all(value in (None, ()) for value in rest.values()), rest


@pytest.mark.parametrize("make", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("damage", ["", "\0", "garbage \xff", "-1", "9" * 40, "1:2:3:4"])
def test_damaged_files_never_raise(tmp_path: Path, make: Callable[[], Tree], damage: str) -> None:
    files = grow(tmp_path, dict.fromkeys(make(), damage))
    read_environment(files)
    read_state(files)
    read_topology((0, 1), files)


def test_folders_where_files_should_be_never_raise(tmp_path: Path) -> None:
    for path in intel_laptop() | container() | pi_4():
        (tmp_path / path).mkdir(parents=True)
    assert read_state(KernelFiles(tmp_path)) == MachineState()
    assert read_environment(KernelFiles(tmp_path)).governor is None


def test_this_machine_is_read_twice_alike() -> None:
    assert read_environment().fingerprint == read_environment().fingerprint
    assert read_state().available_bytes is None or read_state().available_bytes


def test_fingerprint_counts_settings_and_not_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment_of(tmp_path / "a", intel_laptop())
    busy = intel_laptop(count=99, heat=94_000, energy=5) | {
        "proc/loadavg": "9.00 8 7 1/200 1",
        "proc/meminfo": "MemTotal: 7999996 kB\nMemAvailable: 5 kB\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "4200000",
        "sys/class/power_supply/AC/online": "1",
    }
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    later = environment_of(tmp_path / "b", busy)
    assert later.variables["OMP_NUM_THREADS"] == "7"
    measured = later.model_copy(update={"before": read_state(KernelFiles(tmp_path / "b")), "after": MachineState()})
    assert measured.fingerprint == found.fingerprint
    slower = environment_of(tmp_path / "c", intel_laptop() | {"sys/devices/system/cpu/intel_pstate/no_turbo": "1"})
    assert slower.fingerprint != found.fingerprint


def test_variable_that_holds_a_path_keeps_only_its_last_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/home/somebody/lib/libjemalloc.so.2")
    assert read_environment().variables["LD_PRELOAD"] == "libjemalloc.so.2"


def test_environment_survives_its_json() -> None:
    found = read_environment().model_copy(update={"before": read_state()})
    assert Environment.model_validate_json(found.model_dump_json()) == found


@given(st.sets(st.integers(0, 300)))
def test_list_of_cores_is_read_as_the_kernel_writes_it(cores: set[int]) -> None:
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and runs[-1][1] == core - 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    assert parse_cores(text) == tuple(sorted(cores))


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "1,,2", "0-9999999", "1 2"])
def test_what_is_no_list_of_cores_is_empty(text: str) -> None:
    assert parse_cores(text) == ()


PAIRS = ((0, 2), (1, 3))


@pytest.mark.parametrize(
    ("topology", "count", "expected"),
    [
        (Topology(), 1, ()),
        (Topology(usable=(0,)), 1, (0,)),
        (Topology(usable=(0, 1, 2, 3)), 1, (3,)),
        (Topology(usable=(0, 1, 2, 3)), 9, (0, 1, 2, 3)),
        (Topology(usable=(0, 1, 2, 3), siblings=PAIRS), 1, (1,)),
        (Topology(usable=(0, 1, 2, 3), siblings=PAIRS), 2, (0, 1)),
        (Topology(usable=(0, 1, 2, 3), siblings=PAIRS), 3, (0, 1, 3)),
        (Topology(usable=(2, 3), siblings=PAIRS), 2, (2, 3)),
        (Topology(usable=(0, 1, 2, 3), isolated=(1, 2)), 1, (2,)),
        (Topology(usable=(0, 1, 2, 3), isolated=(1, 2)), 2, (1, 2)),
        (Topology(usable=(0, 1, 2, 3), isolated=(1, 2)), 3, (1, 2, 3)),
        (Topology(usable=(0, 1, 2, 3), isolated=(0, 2), siblings=PAIRS), 2, (0, 2)),
        (Topology(usable=(0, 1), isolated=(2, 3)), 1, (1,)),
        (Topology(usable=(0, 1, 2, 3), fast=(1, 2)), 1, (2,)),
        (Topology(usable=(0, 1, 2, 3), fast=(1, 2)), 3, (1, 2, 3)),
    ],
)
def test_cores_to_pin_are_those_that_disturb_least(topology: Topology, count: int, expected: tuple[int, ...]) -> None:
    assert cores_to_pin(topology, count) == expected


def test_topology_knows_fast_cores_by_their_capacity_or_their_name(tmp_path: Path) -> None:
    capacity = {f"sys/devices/system/cpu/cpu{core}/cpu_capacity": str(446 if core < 2 else 1024) for core in range(4)}
    assert read_topology((), grow(tmp_path / "arm", capacity)).fast == (2, 3)
    intel = {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-7"}
    files = grow(tmp_path / "intel", intel | siblings({0: "0-1", 1: "0-1"}))
    assert read_topology((), files).fast == (0, 1, 2, 3)
    assert read_topology((), files).siblings == ((0, 1),)
    assert read_environment(files).core_kinds == ("performance", "efficient")
