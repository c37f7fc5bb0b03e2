"""Small trees of /proc and /sys of machines that we do not have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgebert.measure.machine.kernel_files import KernelFiles

STAT = "cpu  100 5 50 9000 10 3 2 {steal} 0 0\ncpu0 50 2 25 4500 5 1 1 0 0 0\nbtime 1700000000\n"
MEMINFO = "MemTotal:        8000000 kB\nMemAvailable:    6000000 kB\nSwapTotal:       1000000 kB\nSwapFree:         900000 kB\n"
Tree = dict[str, str]


def grow(root: Path, tree: Mapping[str, str]) -> KernelFiles:
    """Writes the files of a tree below a root folder."""
    for path, text in tree.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text if "\0" in text or text.endswith("\n") else text + "\n")
    return KernelFiles(root)


def proc(cpuinfo: str, *, steal: int = 0) -> Tree:
    """Files that every Linux has."""
    return {
        "proc/cpuinfo": cpuinfo,
        "proc/stat": STAT.format(steal=steal),
        "proc/meminfo": MEMINFO,
        "proc/loadavg": "0.25 0.10 0.05 1/200 4321",
        "proc/vmstat": "pgfault 12345\npswpin 3\npswpout 4\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        "proc/sys/kernel/sched_autogroup_enabled": "1",
        "sys/devices/system/cpu/online": "0-3",
        "sys/devices/system/cpu/isolated": "",
    }


def cpufreq(cores: int, *, governor: str, now: int, most: int, **more: str) -> Tree:
    """Files of cpufreq for each core; frequencies in kHz."""
    values = {"scaling_governor": governor, "scaling_cur_freq": str(now), "cpuinfo_max_freq": str(most), **more}
    return {f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}": text for core in range(cores) for name, text in values.items()}


def siblings(groups: Mapping[int, str]) -> Tree:
    """Files that say which hardware threads share a core, by thread."""
    return {f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list": group for core, group in groups.items()}


def raspberry_pi(part: str, name: str, *, clock: int, heat: int = 51_100, flags: str = "0") -> Tree:
    """Four cores of one kind, no SMT."""
    cores = "".join(
        f"processor\t: {core}\nFeatures\t: fp asimd crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
        for core in range(4)
    )
    return {
        **proc(f"{cores}Revision\t: c03112\nModel\t\t: {name}\n"),
        **cpufreq(4, governor="ondemand", now=600_000, most=clock),
        **siblings({core: str(core) for core in range(4)}),
        "proc/device-tree/model": f"{name}\0",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": str(heat),
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "110000",
        "sys/class/hwmon/hwmon0/name": "cpu_thermal",
        "sys/class/hwmon/hwmon0/temp1_input": str(heat),
        "sys/devices/platform/soc/soc:firmware/get_throttled": flags,
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter",
    }


def pi_4(**more: object) -> Tree:
    """A Raspberry Pi 4."""
    return raspberry_pi("0xd08", "Raspberry Pi 4 Model B Rev 1.2", clock=1_500_000, **more)  # type: ignore[arg-type]


def pi_5(**more: object) -> Tree:
    """A Raspberry Pi 5, whose fan has active trip points."""
    tree = raspberry_pi("0xd0b", "Raspberry Pi 5 Model B Rev 1.0", clock=2_400_000, **more)  # type: ignore[arg-type]
    return {
        **tree,
        "sys/class/thermal/thermal_zone0/trip_point_1_type": "active",
        "sys/class/thermal/thermal_zone0/trip_point_1_temp": "50000",
    }


def intel_laptop(*, count: int = 7, heat: int = 62_000, energy: int = 1_000_000) -> Tree:
    """Two cores of two threads, on battery, with RAPL."""
    flags = "fpu sse4_2 avx avx2 fma avx_vnni"
    info = "".join(
        f"processor\t: {core}\nmodel name\t: Intel(R) Core(TM) i5\nflags\t\t: {flags}\ncpu MHz\t\t: 800.0\n\n"
        for core in range(4)
    )
    counts = {
        f"sys/devices/system/cpu/cpu{core}/thermal_throttle/{name}": text
        for core in range(4)
        for name, text in {"core_throttle_count": "1", "package_throttle_count": str(count)}.items()
    }
    return {
        **proc(info),
        **cpufreq(4, governor="powersave", now=800_000, most=4_200_000, energy_performance_preference="balance_power"),
        **siblings({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}),
        **counts,
        **{f"sys/devices/system/cpu/cpu{core}/topology/physical_package_id": "0" for core in range(4)},
        "sys/devices/system/cpu/intel_pstate/no_turbo": "0",
        "sys/class/dmi/id/sys_vendor": "LENOVO",
        "sys/class/dmi/id/product_name": "20XW",
        "sys/class/thermal/thermal_zone0/type": "acpitz",
        "sys/class/thermal/thermal_zone0/temp": "99000",
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone1/temp": str(heat),
        "sys/class/thermal/thermal_zone1/trip_point_0_type": "passive",
        "sys/class/thermal/thermal_zone1/trip_point_0_temp": "-274000",
        "sys/class/thermal/thermal_zone1/trip_point_1_type": "passive",
        "sys/class/thermal/thermal_zone1/trip_point_1_temp": "95000",
        "sys/class/thermal/cooling_device0/type": "Processor",
        "sys/class/thermal/cooling_device0/cur_state": "0",
        "sys/class/hwmon/hwmon2/name": "coretemp",
        "sys/class/hwmon/hwmon2/temp1_label": "Package id 0",
        "sys/class/hwmon/hwmon2/temp1_input": str(heat + 500),
        "sys/class/power_supply/AC/type": "Mains",
        "sys/class/power_supply/AC/online": "0",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Discharging",
        "sys/class/powercap/intel-rapl:0/name": "package-0",
        "sys/class/powercap/intel-rapl:0/energy_uj": str(energy),
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
        "sys/class/powercap/intel-rapl:0:0/name": "core",
        "sys/class/powercap/intel-rapl:0:0/energy_uj": "400",
        "sys/class/powercap/intel-rapl:1/name": "psys",
        "sys/class/powercap/intel-rapl:1/energy_uj": "900",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet mitigations=off isolcpus=3 password=secret",
    }


def amd_server() -> Tree:
    """Two sockets, boost off, isolated cores, energy by hwmon; Tctl is Tdie and 27 C for the fan."""
    info = "".join(
        f"processor\t: {core}\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_vnni\n\n" for core in range(4)
    )
    return {
        **proc(info),
        **cpufreq(4, governor="performance", now=2_900_000, most=3_000_000),
        **siblings({core: str(core) for core in range(4)}),
        "sys/devices/system/cpu/isolated": "2-3",
        "sys/devices/system/cpu/cpufreq/boost": "0",
        "sys/class/hwmon/hwmon0/name": "k10temp",
        "sys/class/hwmon/hwmon0/temp1_label": "Tctl",
        "sys/class/hwmon/hwmon0/temp1_input": "90000",
        "sys/class/hwmon/hwmon0/temp2_label": "Tdie",
        "sys/class/hwmon/hwmon0/temp2_input": "63000",
        "sys/class/hwmon/hwmon1/name": "amd_energy",
        "sys/class/hwmon/hwmon1/energy1_label": "Ecore000",
        "sys/class/hwmon/hwmon1/energy1_input": "100",
        "sys/class/hwmon/hwmon1/energy2_label": "Esocket0",
        "sys/class/hwmon/hwmon1/energy2_input": "5000",
        "sys/class/hwmon/hwmon1/energy3_label": "Esocket1",
        "sys/class/hwmon/hwmon1/energy3_input": "7000",
        "sys/class/hwmon/hwmon2/name": "amdgpu",
        "sys/class/hwmon/hwmon2/energy1_input": "1",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet",
    }


def container() -> Tree:
    """cgroup v2 without a namespace of its own: half a core of its pod's one and a half."""
    own, pod = "sys/fs/cgroup/abc", "sys/fs/cgroup"
    return {
        **proc("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 hypervisor\n", steal=42),
        "proc/self/cgroup": "0::/kubepods/pod7/abc",
        "proc/self/mountinfo": "25 20 0:22 /kubepods/pod7 /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
        f"{own}/cpu.max": "50000 100000",
        f"{own}/cpu.stat": "usage_usec 900\nnr_periods 10\nnr_throttled 2\nthrottled_usec 7000\n",
        f"{own}/memory.max": "max",
        f"{pod}/cpu.max": "150000 100000",
        f"{pod}/cpu.stat": "usage_usec 900\nthrottled_usec 500\n",
        f"{pod}/memory.max": "1073741824",
    }


def old_container() -> Tree:
    """cgroup v1, in Docker's own namespace."""
    cpu, memory = "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/memory"
    return {
        **proc("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2\n"),
        "proc/self/cgroup": "9:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n0::/system.slice",
        "proc/self/mountinfo": (
            "30 25 0:26 /docker/1f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
            "31 25 0:27 /docker/1f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        ),
        f"{cpu}/cpu.cfs_quota_us": "200000",
        f"{cpu}/cpu.cfs_period_us": "100000",
        f"{cpu}/cpu.stat": "nr_periods 5\nnr_throttled 1\nthrottled_time 3000000\n",
        f"{memory}/memory.limit_in_bytes": "536870912",
    }


MACHINES = {
    "pi 4": pi_4,
    "pi 5": pi_5,
    "intel laptop": intel_laptop,
    "amd server": amd_server,
    "container": container,
    "old container": old_container,
    "nothing": dict,
}
