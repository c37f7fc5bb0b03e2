"""The doctor: each check is a function of facts, and the verb says what they find wherever it runs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Result
from device_process import on_a_device
from fake_machines import MACHINES, Tree, grow
from hypothesis import given
from hypothesis import strategies as st

from edgebert.core.progress import Silent
from edgebert.measure.doctor import memory, sharing, software, speed, steadiness
from edgebert.measure.doctor.examine import CHECKS, collect, examine
from edgebert.measure.doctor.facts import Diagnosis, Facts
from edgebert.measure.doctor.trial import PROCESSES, WorkloadTrial, detectable, run_trial, student
from edgebert.measure.machine.cores import Topology
from edgebert.report.environment import Environment, MachineState
from edgebert.report.samples import Samples

PLAIN = Environment(cpu="A CPU", isa=("avx2",), cores=4, machine="x86_64", system="Linux 6", python="3.11", packages={})


def facts(*, before: MachineState | None = None, after: MachineState | None = None, **more: object) -> Facts:
    """Of a machine that tells nothing but what is given: fields of Facts, or of its environment."""
    own = {field.name for field in dataclasses.fields(Facts)}
    environment = PLAIN.model_copy(update={name: value for name, value in more.items() if name not in own})
    rest = {name: value for name, value in more.items() if name in own}
    return Facts(environment, before or MachineState(), after or MachineState(), **rest)  # type: ignore[arg-type]


def state(**fields: object) -> MachineState:
    return MachineState.model_validate(fields)


def trial_of(*medians: int, tail: int = 1) -> WorkloadTrial:
    """Processes of 100 repetitions, two of them `tail` times as long."""
    return WorkloadTrial(processes=tuple(Samples([median] * 98 + [median * tail] * 2) for median in medians))


TABLE: list[tuple[Callable[[Facts], Diagnosis], Facts, str, str]] = [
    (speed.governor, facts(), "note", "does not say"),
    (speed.governor, facts(governor="performance"), "ok", "performance"),
    (speed.governor, facts(governor="powersave", energy_preference="power"), "unstable", "powersave, prefers power"),
    (speed.governor, facts(governor="mixed"), "unstable", "mixed"),
    (speed.turbo, facts(), "note", "does not say"),
    (speed.turbo, facts(turbo=False), "ok", "off"),
    (speed.turbo, facts(turbo=True), "note", "on"),
    (speed.frequency, facts(), "note", "does not say"),
    (speed.frequency, facts(after=state(frequencies_mhz=[3000, 3000])), "ok", "3000 MHz"),
    (
        speed.frequency,
        facts(after=state(frequencies_mhz=[2800, 3000]), max_mhz=3100.0),
        "ok",
        "2800 to 3000 MHz of at most 3100",
    ),
    (speed.frequency, facts(after=state(frequencies_mhz=[800, 3000])), "note", "800 to 3000"),
    (speed.temperature, facts(), "note", "does not say"),
    (speed.temperature, facts(after=state(temperature_c=50)), "ok", "50 C, may slow down from 95 C"),
    (speed.temperature, facts(after=state(temperature_c=91)), "note", "91 C"),
    (speed.temperature, facts(after=state(temperature_c=95)), "unstable", "95 C"),
    (speed.temperature, facts(after=state(temperature_c=80), limit_c=80.0), "unstable", "80 C"),
    (
        speed.temperature,
        facts(before=state(throttle_count=4), after=state(throttle_count=4, temperature_c=95)),
        "note",
        "may slow down from 95 C, but has not",
    ),
    (speed.throttling, facts(), "note", "does not say"),
    (speed.throttling, facts(before=state(throttle_count=0), after=state(throttle_count=0)), "ok", "none"),
    (speed.throttling, facts(before=state(throttle_count=4), after=state(throttle_count=4)), "note", "4 times"),
    (speed.throttling, facts(before=state(throttle_count=4), after=state(throttle_count=5)), "unstable", "just now"),
    (speed.throttling, facts(before=state(firmware_flags=0), after=state(firmware_flags=0)), "ok", "none"),
    (speed.throttling, facts(before=state(firmware_flags=0x40000), after=state(firmware_flags=0x40000)), "note", "not now"),
    (speed.throttling, facts(before=state(firmware_flags=1), after=state(firmware_flags=1)), "unstable", "voltage is too low"),
    (speed.throttling, facts(before=state(firmware_flags=0x10000), after=state(firmware_flags=0x10000)), "note", "was too low"),
    (speed.throttling, facts(before=state(firmware_flags=0), after=state(firmware_flags=0x40004)), "unstable", "just now"),
    (speed.battery, facts(), "ok", "no battery"),
    (speed.battery, facts(after=state(on_battery=False)), "ok", "mains"),
    (speed.battery, facts(after=state(on_battery=True)), "unstable", "battery"),
    (sharing.load, facts(), "note", "does not say"),
    (sharing.load, facts(after=state(load_average=0.2)), "note", "load average 0.20"),
    (sharing.load, facts(before=state(busy_ticks=0), after=state(busy_ticks=105), own_seconds=1.0), "ok", "0.05 of 4 cores"),
    (sharing.load, facts(before=state(busy_ticks=0), after=state(busy_ticks=130), own_seconds=1.0), "note", "0.30 of 4 cores"),
    (
        sharing.load,
        facts(before=state(busy_ticks=0), after=state(busy_ticks=200), own_seconds=1.0),
        "unstable",
        "1.00 of 4 cores",
    ),
    (sharing.load, facts(before=state(busy_ticks=0), after=state(busy_ticks=10), own_seconds=1.0), "ok", "0.00 of 4 cores"),
    (
        sharing.load,
        facts(before=state(busy_ticks=0), after=state(busy_ticks=100), topology=Topology(online=tuple(range(64)))),
        "ok",
        "1.00 of 64 cores",
    ),
    (sharing.siblings, facts(), "note", "does not say"),
    (sharing.siblings, facts(threads_per_core=1), "ok", "one thread"),
    (sharing.siblings, facts(threads_per_core=2), "note", "2 threads a core"),
    (sharing.quota, facts(), "ok", "none"),
    (sharing.quota, facts(cpu_quota=1.5), "note", "1.5 of 4 cores"),
    (
        sharing.quota,
        facts(cpu_quota=1.5, before=state(quota_throttled_us=0), after=state(quota_throttled_us=9000)),
        "unstable",
        "held back 9 ms",
    ),
    (sharing.virtual, facts(), "note", "does not say"),
    (sharing.virtual, facts(virtual=False), "ok", "no"),
    (sharing.virtual, facts(virtual=True), "note", "yes"),
    (sharing.stolen, facts(), "note", "does not say"),
    (sharing.stolen, facts(before=state(stolen_ticks=7), after=state(stolen_ticks=7)), "ok", "none"),
    (sharing.stolen, facts(before=state(stolen_ticks=7), after=state(stolen_ticks=9)), "note", "0.5%"),
    (sharing.stolen, facts(before=state(stolen_ticks=7), after=state(stolen_ticks=27)), "unstable", "5.0%"),
    (sharing.cores, facts(), "note", "does not say"),
    (sharing.cores, facts(topology=Topology(usable=(0, 1))), "note", "2 cores"),
    (sharing.cores, facts(topology=Topology(usable=(0, 1, 2), isolated=(2,))), "ok", "leaves 2 alone"),
    (
        sharing.cores,
        facts(topology=Topology(usable=(0, 1), fast=(1,)), core_kinds=("Cortex-A55", "Cortex-A76")),
        "unstable",
        "Cortex-A55 and Cortex-A76; the fast ones are 1",
    ),
    (sharing.autogroup, facts(), "ok", "does not say"),
    (sharing.autogroup, facts(autogroup=False), "ok", "off"),
    (sharing.autogroup, facts(autogroup=True), "note", "on"),
    (memory.memory, facts(), "note", "does not say"),
    (memory.memory, facts(memory_bytes=10**10, after=state(available_bytes=5 * 10**9)), "ok", "5.0 of 10.0 GB"),
    (memory.memory, facts(memory_bytes=10**10, after=state(available_bytes=9 * 10**8)), "unstable", "0.9 of 10.0 GB"),
    (
        memory.memory,
        facts(memory_bytes=10**10, memory_limit_bytes=10**9, after=state(available_bytes=5 * 10**9)),
        "ok",
        "limit is 1.0 GB",
    ),
    (memory.swap, facts(), "note", "does not say"),
    (memory.swap, facts(after=state(swap_used_bytes=0)), "ok", "none"),
    (memory.swap, facts(after=state(swap_used_bytes=2_000_000)), "note", "2 MB"),
    (memory.swap, facts(before=state(swapped_pages=1), after=state(swapped_pages=5, swap_used_bytes=1)), "unstable", "4 pages"),
    (memory.huge_pages, facts(huge_pages="madvise"), "ok", "madvise"),
    (memory.huge_pages, facts(huge_pages="always"), "note", "always"),
    (software.clock, facts(), "note", "does not say"),
    (software.clock, facts(clock="tsc"), "ok", "tsc"),
    (software.clock, facts(clock="arch_sys_counter"), "ok", "arch_sys_counter"),
    (software.clock, facts(clock="xen"), "note", "xen"),
    (software.clock, facts(clock="hpet"), "unstable", "hpet"),
    (software.instructions, facts(isa=()), "note", "does not say"),
    (software.instructions, facts(isa=("avx512", "avx2")), "note", "weights of 7 bits"),
    (software.instructions, facts(isa=("avx512_vnni", "avx2")), "ok", "weights of 8 bits"),
    (software.instructions, facts(isa=("arm-neon",)), "ok", "weights of 8 bits"),
    (
        software.instructions,
        facts(isa=("amx", "avx512_vnni"), topology=Topology(online=(0, 1), usable=(1,))),
        "note",
        "this process has one core",
    ),
    (software.instructions, facts(isa=("amx",), topology=Topology(online=(0, 1), usable=(0, 1))), "ok", "weights of 8 bits"),
    (software.energy, facts(), "note", "no counter"),
    (software.energy, facts(energy="forbidden"), "note", "only root"),
    (software.energy, facts(energy="readable"), "ok", "a counter"),
    (software.variables, facts(), "ok", "none"),
    (software.variables, facts(variables={"OMP_NUM_THREADS": "2"}), "note", "OMP_NUM_THREADS=2"),
    (software.libraries, facts(packages={"numpy": "2.0"}), "note", "no runtime"),
    (software.libraries, facts(packages={"numpy": "2.0", "onnxruntime": "1.9"}), "ok", "onnxruntime 1.9"),
    (software.kernel, facts(boot_options=("mitigations=off",)), "ok", "mitigations=off"),
    (steadiness.within, facts(), "note", "not tried"),
    (steadiness.within, facts(trial=trial_of(1000, 1000)), "ok", "p99 1.00 times"),
    (steadiness.within, facts(trial=trial_of(1000, 1000, tail=3)), "unstable", "p99 3.00 times"),
    (steadiness.between, facts(), "note", "not tried"),
    (steadiness.between, facts(trial=trial_of(1000, 1001, 999)), "ok", "differences of about 0.1%"),
    (steadiness.between, facts(trial=trial_of(1000, 1020, 980)), "note", "differences of about 2.7%"),
    (steadiness.between, facts(trial=trial_of(1000, 1100, 900)), "unstable", "differences of about 13.3%"),
]


@pytest.mark.parametrize(("check", "given_facts", "level", "seen"), TABLE)
def test_check_finds_what_the_facts_say(check: Callable[[Facts], Diagnosis], given_facts: Facts, level: str, seen: str) -> None:
    found = check(given_facts)
    assert found.level == level
    assert seen in found.seen


def test_every_check_stands_in_the_table() -> None:
    assert {check for check, *_ in TABLE} == set(CHECKS)


def test_every_check_can_find_everything_well() -> None:
    assert {check for check, _, level, _ in TABLE if level == "ok"} == set(CHECKS)


@pytest.mark.parametrize("row", [row for row in TABLE if row[2] == "unstable"])
def test_what_is_unstable_says_why_and_what_mends_it(row: tuple[Callable[[Facts], Diagnosis], Facts, str, str]) -> None:
    found = row[0](row[1])
    assert found.why and found.mend


def test_doctor_names_the_cores_that_bench_would_choose() -> None:
    from edgebert.measure.machine.cores import choose_cores

    for threads in (1, 2):
        found = sharing.cores(collect(0, Silent(), threads=threads))
        assert f"--pin {','.join(map(str, choose_cores(threads)))}" in found.mend


@pytest.mark.parametrize("make", MACHINES.values(), ids=MACHINES)
def test_examination_of_any_machine_names_each_finding_once(tmp_path: Path, make: Callable[[], Tree]) -> None:
    found = examine(collect(0, Silent(), grow(tmp_path, make())))
    assert len({item.name for item in found}) == len(found) == len(CHECKS)


def test_laptop_on_battery_and_pi_in_trouble_are_unstable_for_what_they_are(tmp_path: Path) -> None:
    def unstable(name: str, tree: Tree) -> set[str]:
        return {item.name for item in examine(collect(0, Silent(), grow(tmp_path / name, tree))) if item.level == "unstable"}

    assert unstable("laptop", MACHINES["intel laptop"]()) >= {"governor", "power"}
    flags = {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005"}
    assert unstable("pi", MACHINES["pi 4"]() | flags) >= {"governor", "throttling"}
    assert "clock" in unstable("server", MACHINES["amd server"]())


def test_trial_tells_how_steady_the_work_was() -> None:
    trial = WorkloadTrial(processes=(Samples([1_000_000] * 99 + [5_000_000]), Samples([1_020_000] * 100)))
    assert trial.median_ms == pytest.approx(1.02)
    assert trial.largest_gap_ms == pytest.approx(3.98)
    assert trial.scatter == pytest.approx(np.std([1.0, 1.02], ddof=1) / 1.01)
    assert trial.tail == 1.0  # one in 200 is beyond the 99th percentile


def test_trial_runs_in_as_many_processes_as_asked() -> None:
    trial = run_trial(0.1, Silent(), processes=3)
    assert len(trial.processes) == 3
    assert all(len(part) and part.values.min() > 0 for part in trial.processes)
    assert trial.tail >= 1 and trial.scatter >= 0


@pytest.mark.parametrize("freedom", [2, 3, 8, 18, 98])
@pytest.mark.parametrize("probability", [0.975, 0.8])
def test_quantiles_of_students_distribution_are_those_of_scipy(freedom: int, probability: float) -> None:
    from scipy.stats import t

    assert student(probability, freedom) == pytest.approx(t.ppf(probability, freedom), rel=0.01)


@given(st.floats(0.0001, 0.3), st.integers(2, 100))
def test_more_processes_and_less_scatter_show_smaller_differences(scatter: float, processes: int) -> None:
    assert detectable(scatter, processes + 1) < detectable(scatter, processes) < detectable(2 * scatter, processes)


def test_detectable_difference_is_found_as_often_as_it_says() -> None:
    from scipy.stats import ttest_ind

    processes, scatter = 10, 0.02
    random = np.random.default_rng(1)
    reference = random.normal(1, scatter, (4000, processes))
    changed = random.normal(1 + detectable(scatter, processes), scatter, (4000, processes))
    assert np.mean(ttest_ind(changed, reference, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.03)


@pytest.mark.slow
def test_doctor_prints_the_worst_first_and_changes_nothing(cli: Callable[..., Result], tmp_path: Path) -> None:
    done = cli("doctor", "--seconds", "0.2", "--quiet")
    assert done.code == 0 and done.err == ""
    levels = [line.split()[0] for line in done.out.splitlines() if line.startswith(("ok", "note", "unstable"))]
    assert len(levels) == len(CHECKS) and levels == sorted(levels, key=["unstable", "note", "ok"].index)
    assert f"{PROCESSES} processes a side can show differences of about" in done.out
    assert done.out.splitlines()[-1] == ", ".join(
        [
            f"{levels.count('unstable')} unstable",
            f"{levels.count('note')} note{'s' * (levels.count('note') != 1)}",
            f"{levels.count('ok')} ok",
        ]
    )
    assert list(tmp_path.iterdir()) == []


def test_json_of_the_doctor_holds_the_same(cli: Callable[..., Result]) -> None:
    done = cli("doctor", "--seconds", "0.2", "--json", "--quiet")
    content = json.loads(done.out)
    assert [item["name"] for item in content["findings"]] == [check(facts()).name for check in CHECKS]
    assert content["unstable"] == sum(item["level"] == "unstable" for item in content["findings"])
    assert set(content["trial"]) == {"median_ms", "tail", "largest_gap_ms", "scatter", "detectable"}
    assert content["trial"]["detectable"]["40"] < content["trial"]["detectable"]["10"]
    assert Environment.model_validate(content["environment"]).cores >= 1
    MachineState.model_validate(content["before"])


def test_without_seconds_there_is_no_trial(cli: Callable[..., Result]) -> None:
    content = json.loads(cli("doctor", "--seconds", "0", "--json").out)
    assert content["trial"] is None
    assert {item["seen"] for item in content["findings"] if item["name"].endswith(("process", "processes"))} == {"not tried"}


def test_strict_fails_where_something_is_unstable_and_only_there(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgebert.measure.doctor import examine as module

    calm, hot = facts(clock="tsc"), facts(clock="hpet")
    monkeypatch.setattr(module, "CHECKS", (software.clock,))
    for found, options, code in (
        (calm, ["--strict"], 0),
        (hot, ["--strict"], 1),
        (hot, [], 0),
        (hot, ["--strict", "--json"], 1),
    ):
        monkeypatch.setattr(module, "collect", lambda *_, found=found, **__: found)
        assert cli("doctor", *options).code == code


@pytest.mark.parametrize("seconds", ["-1", "601", "soon"])
def test_doctor_refuses_seconds_that_are_none(cli: Callable[..., Result], seconds: str) -> None:
    assert cli("doctor", "--seconds", seconds).code == 2


@pytest.mark.slow
def test_doctor_works_when_only_the_device_install_is_there() -> None:
    done = on_a_device("doctor", "--seconds", "0.2", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trial"]["median_ms"] > 0


def test_doctor_works_where_no_runtime_and_no_rich_is_there() -> None:
    from device_process import WORKSTATION

    done = on_a_device("doctor", "--seconds", "0", "--json", absent=WORKSTATION | {"onnxruntime", "openvino"})
    assert done.returncode == 0, done.stderr


def test_doctor_ends_well_when_nobody_reads_on() -> None:
    command = f"{sys.executable} -m edgebert doctor --seconds 0 --quiet | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_process_of_the_trial_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebert.errors import StageError

    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # no interpreter starts with it
    with pytest.raises(StageError, match="fixed piece of work ended with code"):
        run_trial(0.1, Silent(), processes=1)
