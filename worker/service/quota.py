"""How many CPUs and how much memory this process may use, by what cgroups (v1 and v2) allow."""

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CPU, MEMORY = "cpu", "memory"
V2 = ""  # as /proc/self/cgroup names the hierarchies: those of v1 by their controllers
V1_FILES = {CPU: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), MEMORY: ("memory.limit_in_bytes",)}
V2_FILES = {CPU: ("cpu.max",), MEMORY: ("memory.max",)}
BOUNDLESS = 2**60
"""Bytes that are no limit; v1 writes a number of this kind where there is none."""
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
    quotas = map(_whole_cpus, _limits(root, CPU))
    return min((max(1, number) for number in quotas if number is not None), default=None)


def memory(root: Path = Path("/")) -> int | None:
    """Return how many bytes the cgroups of this process allow; None: no limit, as for ``quota``."""
    limits = [int(words[0]) for words in _limits(root, MEMORY) if words and words[0].isdecimal()]
    return min((limit for limit in limits if limit < BOUNDLESS), default=None)


def resident() -> int:
    """Return how many bytes of memory this process holds now."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:  # no Linux; what it held at most, then, in bytes on a Mac
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _limits(root: Path, controller: str) -> Iterator[list[str]]:
    """Yield what the files say that limit each cgroup that holds this process, as words."""
    for folder, names in _folders(root, controller):
        yield " ".join(_text(folder / name) for name in names).split()


def _folders(root: Path, controller: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the folder of each cgroup that holds this process, and the names of its files."""
    cgroups = _cgroups(root)
    for hierarchy, top, point in _mounts(root):
        if hierarchy not in (V2, controller):
            continue
        files = (V1_FILES if hierarchy else V2_FILES)[controller]
        own = cgroups.get(hierarchy)
        # A container may see its cgroup by the host's path, mounted as if it were the root.
        if own is None or not own.is_relative_to(top):
            continue
        below = own.relative_to(top)
        if ".." in below.parts:  # it left the cgroup namespace, and no folder here is its own
            continue
        for names in (below, *below.parents):
            yield root / point.lstrip("/") / names, files


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
    """Yield hierarchy, topmost cgroup and mount point of each mount that may limit us."""
    for line in _text(root / "proc/self/mountinfo").split("\n"):
        mount, _, system = line.partition(" - ")
        fields, (kind, *rest) = mount.split(" "), system.split(" ")
        if len(fields) < 6 or len(rest) < 2:
            continue
        top, point = (ESCAPED.sub(lambda code: chr(int(code[1], 8)), text) for text in fields[3:5])
        if kind == "cgroup2":
            yield V2, PurePosixPath(top), point
        elif kind == "cgroup":
            for controller in V1_FILES.keys() & rest[1].split(","):
                yield controller, PurePosixPath(top), point


def _whole_cpus(words: list[str]) -> int | None:
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
