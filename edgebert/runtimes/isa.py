"""Instruction sets of CPUs, and which of them overflow when they sum 8-bit products.

Without dot products of bytes, x86 multiplies unsigned by signed bytes with vpmaddubsw, which adds each two products in 16
bits and saturates there: 2 * 255 * 127 does not fit, 2 * 255 * 64 does. ONNX Runtime's kernels do so (MLAS,
`amd64/QgemmU8X8KernelAvx2.asm` and `QgemmU8S8KernelAvx512Core.asm`, chosen in `platform.cpp`), and so do those of oneDNN,
which OpenVINO runs ("Nuances of int8 Computations" in its developer guide). Weights of 7 bits keep every such sum exact, at
any activation.

VNNI (vpdpbusd) and AMX add four products in 32 bits. ARM never saturates: with dot products (udot, ummla) it adds in 32
bits, and without them MLAS widens to 16 bits before it multiplies (umlal, `aarch64/QgemmU8X8KernelNeon.S`), or adds two
signed products in 16 bits (smull, smlal, `aarch64/QgemmS8S8KernelNeon.S`), of which no weight of -127 to 127 is too large.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgebert.runtimes.target import Isa, Target

CPUINFO = Path("/proc/cpuinfo")
ISA_FLAGS: dict[str, Isa] = {
    "amx_int8": "amx",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512",
    "avx2": "avx2",
    "i8mm": "arm-i8mm",
    "asimddp": "arm-dotprod",
    "asimd": "arm-neon",
}
"""Flag in Linux's /proc/cpuinfo -> instruction set."""
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Flags any of which means that the CPU multiplies in bfloat16."""
EXACT: tuple[Isa, ...] = ("avx_vnni", "avx512_vnni", "amx", "arm-neon", "arm-dotprod", "arm-i8mm")
"""Instruction sets any of which sums 8-bit products exactly, so that weights may use all 8 bits."""

ARCH_PRCTL, ARCH_GET_XCOMP_PERM, XTILEDATA = 158, 0x1022, 18
"""The system call arch_prctl on x86-64, its request for the features that this process was granted, and AMX's bit among them
(the kernel's arch/x86/xstate.rst)."""


@dataclass(frozen=True)
class Cpu:
    """A machine's CPU."""

    model: str
    isas: tuple[Isa, ...]
    bfloat16: bool = False
    """Whether it multiplies in bfloat16."""


def host_cpu() -> Cpu:
    """This machine's CPU. Where its flags cannot be read, an x86 CPU counts as one without any."""
    try:
        return parse_cpuinfo(CPUINFO.read_text())
    except OSError:
        return Cpu(platform.processor() or "unknown", ("arm-neon",) if _is_arm() else ())


def parse_cpuinfo(text: str) -> Cpu:
    """Reads Linux's /proc/cpuinfo. A flag counts only where every core has it: a thread may run on any core."""
    lines = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines())]
    cores = [set(value.split()) for name, value in lines if name in ("flags", "Features")]
    flags = set.intersection(*cores) if cores else set()
    values = dict(lines)
    return Cpu(
        model=values.get("model name") or values.get("Model") or platform.processor() or "unknown",
        isas=tuple(isa for flag, isa in ISA_FLAGS.items() if flag in flags),
        bfloat16=bool(flags & BFLOAT16),
    )


def usable_isa(cpu: Cpu, amx: bool) -> Isa | None:
    """The strongest instruction set that INT8 products of a process can use, by the CPU's flags; None: it has none of them.

    Args:
        amx: whether the process may use AMX.
    """
    return next((isa for isa in ISA_FLAGS.values() if isa in cpu.isas and (isa != "amx" or amx)), None)


def amx_granted() -> bool:
    """Whether this process may use AMX's registers. Linux grants them on request, and ONNX Runtime and OpenVINO request them
    where they multiply with AMX: so after a model's first answer this tells whether it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    granted = ctypes.c_ulong(0)
    failed = ctypes.CDLL(None).syscall(ARCH_PRCTL, ARCH_GET_XCOMP_PERM, ctypes.byref(granted))
    return not failed and bool(granted.value >> XTILEDATA & 1)


def saturates(isas: Collection[Isa]) -> bool:
    """Whether a CPU with only these instruction sets adds products of unsigned and signed bytes in 16 bits."""
    return not set(isas) & set(EXACT)


def of_this_architecture(isas: Collection[Isa]) -> list[Isa]:
    """The instruction sets that a CPU of this machine's architecture can have."""
    return [isa for isa in isas if isa.startswith("arm-") == _is_arm()]


def overflows(target: Target) -> bool:
    """Whether 8-bit weights overflow on the target's CPU, or on this machine's, where the target is measured."""
    return saturates(host_cpu().isas) or (target.isa is not None and saturates([target.isa]))


def _is_arm() -> bool:
    return platform.machine().lower() in ("arm64", "aarch64")
