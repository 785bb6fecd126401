"""What a server and its children use, as the kernel counts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the start, and the proportional set size now in bytes."""

    cpu: float
    memory: int


def usage(root: int) -> Usage:
    """Return the sums over the process ``root`` and all that descend from it."""
    cpu, memory = 0.0, 0
    for process in tree(root):
        fields = stat(process)
        if fields is None:
            continue
        # utime and stime; cutime and cstime are those of children that ended
        cpu += sum(int(value) for value in fields[11:15]) / TICKS
        memory += proportional_set(process)
    return Usage(cpu, memory)


def tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (fields := stat(int(path.name))):
            children.setdefault(int(fields[1]), []).append(int(path.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def stat(process: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name, from the state on."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def proportional_set(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) * 1024
