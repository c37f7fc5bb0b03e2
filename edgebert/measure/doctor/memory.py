"""Checks of memory: how much is left, swap, huge pages."""

from __future__ import annotations

from edgebert.measure.doctor.facts import NOT_TOLD, Diagnosis, Facts

SCARCE = 0.1
"""Share of all memory that should be left."""


def memory(facts: Facts) -> Diagnosis:
    """Memory that is left."""
    left, total = facts.after.available_bytes, facts.environment.memory_bytes
    limit = facts.environment.memory_limit_bytes
    if left is None or total is None:
        return Diagnosis("memory", "note", NOT_TOLD)
    seen = f"{left / 1e9:.1f} of {total / 1e9:.1f} GB left" + (
        "" if limit is None else f", the cgroup's limit is {limit / 1e9:.1f} GB"
    )
    if left >= SCARCE * total:
        return Diagnosis("memory", "ok", seen)
    return Diagnosis("memory", "unstable", seen, "pages are thrown out and read again", "close what needs memory")


def swap(facts: Facts) -> Diagnosis:
    """Pages that come from a disk cost milliseconds."""
    used, before, after = facts.after.swap_used_bytes, facts.before.swapped_pages, facts.after.swapped_pages
    why, mend = "a page that comes back from the disk costs milliseconds", "close what needs memory, or: sudo swapoff -a"
    if before is not None and after is not None and after > before:
        return Diagnosis("swap", "unstable", f"{after - before} pages swapped just now", why, mend)
    if used is None:
        return Diagnosis("swap", "note", NOT_TOLD)
    if used:
        return Diagnosis("swap", "note", f"{used / 1e6:.0f} MB in use", why, mend)
    return Diagnosis("swap", "ok", "none in use")


def huge_pages(facts: Facts) -> Diagnosis:
    """Whether the kernel joins pages into huge ones by itself."""
    found = facts.environment.huge_pages
    if found != "always":
        return Diagnosis("huge pages", "ok", found or NOT_TOLD)
    why = "whether a process gets huge pages is chance, and making them can stop it"
    mend = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
    return Diagnosis("huge pages", "note", found, why, mend)


CHECKS = (memory, swap, huge_pages)
