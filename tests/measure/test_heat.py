"""A hot or throttling CPU is waited for, and what was measured while it throttled is marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from fake_machines import Tree, amd_server, grow, intel_laptop, pi_4, pi_5
from hypothesis import given
from hypothesis import strategies as st
from notes import Notes

from edgebert.core.progress import Silent
from edgebert.measure.latency import latency
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import measure_rounds
from edgebert.measure.machine import heat
from edgebert.measure.machine.cooling import COOLER_BY_C, LOOK_EVERY_S, Cooling, held_back, throttled
from edgebert.measure.machine.kernel_files import KernelFiles
from edgebert.measure.machine.machine_state import read_state
from edgebert.report.environment import MachineState
from edgebert.report.rounds import Round
from edgebert.runtimes.target import Target

LIMIT = 80.0
HWMON = "sys/class/hwmon/hwmon0/temp1"


def warm(celsius: float | None = None, **more: int | bool) -> MachineState:
    return MachineState(temperature_c=celsius, **more)


def cooling(states: Iterable[MachineState], *, allowance_s: float = 20.0) -> tuple[Cooling, list[float], Notes]:
    """One that reads these states, one after the other, and how long it slept each time."""
    pauses: list[float] = []
    notes, left = Notes(), iter(states)
    return Cooling(notes, allowance_s, LIMIT, read=lambda: next(left), sleep=pauses.append), pauses, notes


def forever(*states: MachineState) -> Iterator[MachineState]:
    """The states, and the last one again and again."""
    yield from states
    while True:
        yield states[-1]


@pytest.mark.parametrize(
    ("tree", "temperature", "limit"),
    [
        (pi_4(heat=81_300), 81.3, 80.0),
        (pi_5(), 51.1, 80.0),  # an active trip point starts the fan, a critical one ends everything
        (intel_laptop(heat=62_000), 62.5, 95.0),  # acpitz and trip points that nobody set do not count
        (amd_server(), 63.0, 95.0),
        (amd_server() | {f"{HWMON}_max": "70000", f"{HWMON}_crit": "100000"}, 63.0, 100.0),  # k10temp says 70 of every CPU
        (amd_server() | {f"{HWMON}_crit": "0"}, 63.0, 95.0),
        (pi_4() | {f"{HWMON}_crit": "110000"}, 51.1, 80.0),  # there all is switched off
        (intel_laptop() | {"sys/class/hwmon/hwmon2/temp1_crit": "100000"}, 62.5, 95.0),  # the trip point comes first
        (pi_4() | {"sys/class/hwmon/hwmon0/temp1_input": "0", "sys/class/thermal/thermal_zone0/temp": "-273000"}, 0.0, 80.0),
        (
            pi_4() | dict.fromkeys(("sys/class/hwmon/hwmon0/temp1_input", "sys/class/thermal/thermal_zone0/temp"), ""),
            None,
            80.0,
        ),
        ({}, None, 95.0),
    ],
)
def test_temperature_and_its_limit_are_the_cpus(tmp_path: Path, tree: Tree, temperature: float | None, limit: float) -> None:
    files = grow(tmp_path, tree)
    assert heat.temperature_c(files) == temperature
    assert heat.limit_c(files) == limit


def test_firmware_flags_of_a_raspberry_pi_are_hexadecimal(tmp_path: Path) -> None:
    assert heat.firmware_flags(grow(tmp_path, pi_4(flags="d0008"))) == 0xD0008
    assert heat.firmware_flags(KernelFiles(tmp_path / "none")) is None


def test_cooling_device_that_holds_the_frequency_down_is_seen(tmp_path: Path) -> None:
    assert heat.capped(grow(tmp_path, intel_laptop())) is False
    held = {"sys/class/thermal/cooling_device1/type": "thermal-cpufreq-0", "sys/class/thermal/cooling_device1/cur_state": "3"}
    assert heat.capped(grow(tmp_path, held)) is True
    fan = {"sys/class/thermal/cooling_device0/type": "pwm-fan", "sys/class/thermal/cooling_device0/cur_state": "2"}
    assert heat.capped(grow(tmp_path / "fan", fan)) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (warm(), warm(), None),
        (warm(throttle_count=3), warm(throttle_count=3), False),
        (warm(throttle_count=3), warm(throttle_count=4), True),
        (warm(), warm(throttle_count=4), None),
        (warm(firmware_flags=0x50000), warm(firmware_flags=0x50000), False),
        (warm(firmware_flags=0x10000), warm(firmware_flags=0x50000), True),
        (warm(firmware_flags=0), warm(firmware_flags=0x4), True),
        (warm(firmware_flags=0), warm(firmware_flags=0x10001), False),
        (warm(capped=False), warm(capped=True), True),
        (warm(capped=True), warm(capped=False), False),
    ],
)
def test_speed_was_held_down_where_a_count_or_a_flag_says_so(
    before: MachineState, after: MachineState, expected: bool | None
) -> None:
    assert held_back(before, after) is expected


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (warm(), warm(), None),
        (warm(70), warm(79.9), False),
        (warm(80), warm(70), True),
        (warm(70), warm(80), True),
        (warm(70, throttle_count=1), warm(70, throttle_count=2), True),
        (warm(quota_throttled_us=0), warm(quota_throttled_us=10_001), True),
        (warm(quota_throttled_us=0), warm(quota_throttled_us=10_000), None),
        (warm(70, quota_throttled_us=5), warm(70, quota_throttled_us=5), False),
        (warm(95, throttle_count=1), warm(95, throttle_count=1), False),
        (warm(95, firmware_flags=0), warm(95, firmware_flags=0), False),
        (warm(95, capped=False), warm(95, capped=False), False),
        (warm(95, throttle_count=1), warm(95), True),
    ],
)
def test_round_is_marked_where_the_machine_throttled(before: MachineState, after: MachineState, expected: bool | None) -> None:
    assert throttled(before, after, SECOND, LIMIT) is expected


def test_cpu_that_works_hot_by_design_is_not_marked(tmp_path: Path) -> None:
    hot = {"sys/class/hwmon/hwmon0/temp2_input": "94000"}
    files = grow(tmp_path, amd_server() | hot)
    state = read_state(files)
    assert state.temperature_c == 94 and throttled(state, state, SECOND, heat.limit_c(files)) is False


def test_quota_does_not_count_where_the_wall_time_is_not_known() -> None:
    assert throttled(warm(quota_throttled_us=0), warm(quota_throttled_us=10**9), None, LIMIT) is None


def test_cool_cpu_is_not_waited_for() -> None:
    device, pauses, notes = cooling([warm(79.9)])
    assert device.wait() == warm(79.9)
    assert pauses == [] and notes.lines == []


def test_machine_that_tells_nothing_is_not_waited_for() -> None:
    device, pauses, _ = cooling([warm(), warm(), warm()])
    assert device.after(device.wait(), SECOND) is None
    assert pauses == []


def test_hot_cpu_is_waited_for_until_it_is_well_below_the_limit() -> None:
    cool = LIMIT - COOLER_BY_C
    device, pauses, notes = cooling([warm(84), warm(79), warm(cool), warm(cool - 0.1)])
    assert device.wait() == warm(cool - 0.1)
    assert pauses == [LOOK_EVERY_S] * 3
    assert notes.lines == ["waits until the CPU has cooled from 84 to 75 C, at most 20 s", "the CPU has cooled after 6 s"]


def test_waits_of_a_run_share_their_allowance_and_what_stays_hot_is_marked() -> None:
    device, pauses, notes = cooling(forever(warm(90)), allowance_s=5)
    before = device.wait()
    assert sum(pauses) == 5 and pauses[-1] == 1
    assert device.after(before, SECOND) is True
    device.wait()
    assert sum(pauses) == 5, "nothing was left of the allowance"
    assert notes.lines[1:] == ["the CPU is still too hot after 5 s"]


def test_allowance_of_nothing_marks_and_never_waits() -> None:
    device, pauses, notes = cooling(forever(warm(90)), allowance_s=0)
    assert device.after(device.wait(), SECOND) is True
    assert pauses == [] and notes.lines == []


def test_throttling_within_a_process_marks_it_and_lets_the_next_one_wait() -> None:
    states = [warm(throttle_count=1), warm(throttle_count=2), warm(throttle_count=2), warm(throttle_count=2)]
    device, pauses, notes = cooling(states)
    assert device.after(device.wait(), SECOND) is True
    assert device.wait() == warm(throttle_count=2)
    assert pauses == [LOOK_EVERY_S]
    assert notes.lines[0] == "waits until the CPU has cooled, at most 20 s"


@given(st.lists(st.floats(20, 100), min_size=1, max_size=30), st.floats(0, 60))
def test_wait_never_exceeds_its_allowance_and_ends_cool_or_spent(temperatures: list[float], allowance: float) -> None:
    device, pauses, _ = cooling(forever(*map(warm, temperatures)), allowance_s=allowance)
    end = device.wait()
    assert sum(pauses) <= allowance + 1e-9
    assert end.temperature_c is not None
    assert end.temperature_c < LIMIT or sum(pauses) == pytest.approx(allowance)


def test_measure_rounds_waits_before_each_process_and_marks_the_hot_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    served = []

    def serve(job: RoundJob) -> Round:
        served.append(job.round)
        return Round(round=job.round, latencies_ns=(5,), tokenise_ns=(), lengths=(), load_ns=1)

    monkeypatch.setattr(latency, "run_job", serve)  # which model runs does not matter here
    job = RoundJob(
        round=0,
        model="m",
        target=Target(runtime="onnxruntime"),
        task=None,
        labels=(),
        max_length=8,
        pad_id=0,
        tokenizer=None,
        rows="r",
        warmup=0,
    )
    device, pauses, _ = cooling([warm(60), warm(70), warm(82), warm(74), warm(83)])
    rounds = measure_rounds([job], 2, Silent(), cooling=device)[0]
    assert served == [0, 1]
    assert [item.throttled for item in rounds] == [False, True]
    assert len(pauses) == 1
