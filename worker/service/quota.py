"""How many CPUs this process may use, by scheduler affinity and cgroup quotas (v1 and v2)."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

V1, V2 = "cpu", ""  # as /proc/self/cgroup names the hierarchies: v1 by its controllers
QUOTA_FILES = {V1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), V2: ("cpu.max",)}
CGROUP = re.compile(r"\d+:([^:]*):(/.*)")
ESCAPED = re.compile(r"\\([0-7]{3})")


def cpus(root: Path = Path("/")) -> int:
    """Return how many whole CPUs this process may use, at least 1.

    The affinity counts, and so does the ``quota`` of the cgroups below ``root``.
    """
    affinity = len(os.sched_getaffinity(0))
    allowed = quota(root)
    return affinity if allowed is None else min(affinity, allowed)


def quota(root: Path) -> int | None:
    """Return how many whole CPUs the cgroups of this process allow, at least 1; None: no quota.

    The smallest quota counts of its own cgroup and every ancestor that is mounted; 2.5 CPUs are 2.
    A file that is absent, unreadable or malformed sets no quota. What lies above a cgroup
    namespace cannot be seen. See cgroups(7), proc_pid_mountinfo(5) and the kernel's
    ``cgroup-v2.rst`` and ``sched-bwc.rst``.

    Args:
        root: the folder that holds ``proc`` and the mount points.
    """
    quotas = [_whole_cpus(folder, names) for folder, names in _folders(root)]
    return min((max(1, number) for number in quotas if number is not None), default=None)


def _folders(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the folder of each cgroup that holds this process, and its quota files' names."""
    cgroups = _cgroups(root)
    for hierarchy, top, point in _mounts(root):
        own = cgroups.get(hierarchy)
        # A container may see its cgroup by the host's path, mounted as if it were the root.
        if own is None or not own.is_relative_to(top):
            continue
        below = own.relative_to(top)
        if ".." in below.parts:  # it left the cgroup namespace, and no folder here is its own
            continue
        for names in (below, *below.parents):
            yield root / point.lstrip("/") / names, QUOTA_FILES[hierarchy]


def _cgroups(root: Path) -> dict[str, PurePosixPath]:
    """Return this process's cgroup in each hierarchy, by controller."""
    lines = map(CGROUP.fullmatch, _text(root / "proc/self/cgroup").split("\n"))
    return {
        controller: PurePosixPath(line[2])
        for line in lines
        if line
        for controller in line[1].split(",")
    }


def _mounts(root: Path) -> Iterator[tuple[str, PurePosixPath, str]]:
    """Yield the hierarchy, the topmost cgroup and the mount point of each mount with CPU quotas."""
    for line in _text(root / "proc/self/mountinfo").split("\n"):
        mount, _, system = line.partition(" - ")
        fields, (kind, *rest) = mount.split(" "), system.split(" ")
        if len(fields) < 6 or len(rest) < 2:
            continue
        top, point = (ESCAPED.sub(lambda code: chr(int(code[1], 8)), text) for text in fields[3:5])
        if kind == "cgroup2":
            yield V2, PurePosixPath(top), point
        elif kind == "cgroup" and V1 in rest[1].split(","):
            yield V1, PurePosixPath(top), point


def _whole_cpus(folder: Path, names: tuple[str, ...]) -> int | None:
    words = " ".join(_text(folder / name) for name in names).split()
    try:
        microseconds, period = map(int, words)
    except ValueError:  # "max" too
        return None
    return microseconds // period if microseconds > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except (OSError, ValueError):  # ValueError: a path with a null byte
        return ""
