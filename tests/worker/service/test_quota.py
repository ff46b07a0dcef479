"""How many CPUs a process may use: from trees laid out like the kernel's, and in a real worker."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model_files import write_mean_model
from tidecast.worker.service.quota import cpus, memory, quota

V1_MOUNT = "33 32 0:28 {root} {point} rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct"
V2_MOUNT = "34 32 0:29 {root} {point} rw,nosuid,relatime shared:10 master:2 - cgroup2 cgroup2 rw"
OTHERS = (
    "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
    "32 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "35 32 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V1 = V1_MOUNT.format(root="/", point="/sys/fs/cgroup/cpu,cpuacct")
V2 = V2_MOUNT.format(root="/", point="/sys/fs/cgroup")
V1_FOLDER = "sys/fs/cgroup/cpu,cpuacct"
V1_FILES = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def lay_out(root: Path, cgroups: str, mounts: str, files: dict[str, str]) -> Path:
    """Write what the kernel would show below ``root``; return ``root``."""
    files = {"proc/self/cgroup": cgroups, "proc/self/mountinfo": OTHERS + mounts, **files}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def v1_files(folder: str, microseconds: object, period: object = 100_000) -> dict[str, str]:
    contents = zip(V1_FILES, (microseconds, period), strict=True)
    return {f"{folder}/{name}": str(content) for name, content in contents}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", None),
        ("400000 100000", 4),
        ("250000 100000", 2),
        ("299999 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("60000 20000", 3),
    ],
)
def test_v2_within_a_cgroup_namespace(tmp_path: Path, limit: str, expected: int | None) -> None:
    lay_out(tmp_path, "0::/", V2, {"sys/fs/cgroup/cpu.max": limit})
    assert quota(tmp_path) == expected


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [(-1, None), (400_000, 4), (250_000, 2), (99_999, 1), (1000, 1)],
)
def test_v1_within_a_cgroup_namespace(
    tmp_path: Path, microseconds: int, expected: int | None
) -> None:
    lay_out(tmp_path, "4:cpu,cpuacct:/", V1, v1_files(V1_FOLDER, microseconds))
    assert quota(tmp_path) == expected


def test_v1_in_docker_without_a_namespace(tmp_path: Path) -> None:
    """The container's cgroup is mounted as if it were the root, and named as the host names it."""
    mount = V1_MOUNT.format(root="/docker/0-1f", point="/sys/fs/cgroup/cpu,cpuacct")
    files = v1_files(V1_FOLDER, 300_000) | v1_files(f"{V1_FOLDER}/inner", 200_000)
    lay_out(tmp_path, "5:cpuset:/docker/0-1f\n4:cpuacct,cpu:/docker/0-1f", mount, files)
    assert quota(tmp_path) == 3
    (tmp_path / "proc/self/cgroup").write_text("4:cpuacct,cpu:/docker/0-1f/inner\n")
    assert quota(tmp_path) == 2


@pytest.mark.parametrize(
    ("root", "own"),
    [("/docker/other", "/docker/own"), ("/docker/ow", "/docker/own"), ("/", "/../own")],
)
def test_a_mount_that_does_not_hold_this_process_says_nothing(
    tmp_path: Path, root: str, own: str
) -> None:
    mount = V1_MOUNT.format(root=root, point="/sys/fs/cgroup/cpu,cpuacct")
    files = v1_files(V1_FOLDER, 200_000) | v1_files("sys/fs/cgroup/own", 200_000)
    lay_out(tmp_path, f"4:cpu,cpuacct:{own}", mount, files)
    assert quota(tmp_path) is None


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        # the root's (it has none on a host), pod's, container's and own
        ((None, "800000 100000", "600000 100000", "max 100000"), 6),
        ((None, "300000 100000", "600000 100000", "400000 100000"), 3),
        ((None, "max 100000", "max 100000", "250000 100000"), 2),
        ((None, "700000 100000", None, None), 7),
        (("500000 100000", "max 100000", None, "max 100000"), 5),
        ((None, "max 100000", "max 100000", "max 100000"), None),
        ((None, None, None, None), None),
    ],
)
def test_the_smallest_of_nested_quotas_counts(
    tmp_path: Path, limits: tuple[str | None, ...], expected: int | None
) -> None:
    folders = ["", "pod", "pod/container", "pod/container/own"]
    held = [(at, limit) for at, limit in zip(folders, limits, strict=True) if limit is not None]
    files = {f"sys/fs/cgroup/{folder}/cpu.max": limit for folder, limit in held}
    files["sys/fs/cgroup/pod/sibling/cpu.max"] = "100000 100000"
    lay_out(tmp_path, "0::/pod/container/own", V2, files)
    assert quota(tmp_path) == expected


def test_v1_ancestors_count(tmp_path: Path) -> None:
    files = v1_files(f"{V1_FOLDER}/a", 400_000) | v1_files(f"{V1_FOLDER}/a/b", -1)
    lay_out(tmp_path, "4:cpu,cpuacct:/a/b", V1, files | v1_files(V1_FOLDER, -1))
    assert quota(tmp_path) == 4


@pytest.mark.parametrize(("v1", "v2", "expected"), [(3, None, 3), (None, 2, 2), (5, 4, 4)])
def test_hybrid(tmp_path: Path, v1: int | None, v2: int | None, expected: int) -> None:
    mounts = V1 + "\n" + V2_MOUNT.format(root="/", point="/sys/fs/cgroup/unified")
    files = v1_files(f"{V1_FOLDER}/one", 100_000 * v1) if v1 else {}
    files |= {"sys/fs/cgroup/unified/two/cpu.max": f"{100_000 * v2} 100000"} if v2 else {}
    cgroups = "12:cpuset:/\n4:cpu,cpuacct:/one\n1:name=systemd:/x\n0::/two"
    assert quota(lay_out(tmp_path, cgroups, mounts, files)) == expected


def test_strange_names(tmp_path: Path) -> None:
    """A colon, a space, a backslash, Unicode's line separator, bytes that are no UTF-8."""
    mount = V2_MOUNT.format(root=r"/a\040-\040b", point="/mnt/c\\040\\134\u2028d")
    limit = {"mnt/c \\\u2028d/c:/e:f/cpu.max": "300000 100000"}
    lay_out(tmp_path, "0::/a - b/c:/e:f", mount, limit)
    info = tmp_path / "proc/self/mountinfo"
    info.write_bytes(b"50 1 0:9 / /mnt/\xff rw - nfs host:/\xfe rw\n" + info.read_bytes())
    assert quota(tmp_path) == 3


@pytest.mark.parametrize(
    "limit",
    ["", "max", "150000", "a b", "2e5 100000", "1 2 3", "200000 0", "0 100000", "200000 -1"],
)
def test_a_malformed_quota_sets_none(tmp_path: Path, limit: str) -> None:
    files = {"sys/fs/cgroup/own/cpu.max": limit, "sys/fs/cgroup/cpu.max": "500000 100000"}
    assert quota(lay_out(tmp_path, "0::/own", V2, files)) == 5


@pytest.mark.parametrize(
    "line",
    [
        "34",
        " - ",
        "- - - - - - - - - - -",
        "34 32 0:29 / - cgroup2 cgroup2 rw",
        "34 32 0:29 x y rw - cgroup2 cgroup2 rw",
        "34 32 0:29 / /x\0 rw - cgroup2 cgroup2 rw",
        r"34 32 0:29 / /x\000 rw - cgroup2 cgroup2 rw",
        "34 32 0:29 / /x rw - cgroup cgroup",
    ],
)
def test_a_malformed_mount_is_passed_over(tmp_path: Path, line: str) -> None:
    mounts = f"{line}\n{V2}\n{line}"
    lay_out(tmp_path, "0::/", mounts, {"sys/fs/cgroup/cpu.max": "300000 100000"})
    assert quota(tmp_path) == 3


def test_v1_needs_both_files(tmp_path: Path) -> None:
    lay_out(tmp_path, "4:cpu,cpuacct:/", V1, v1_files(V1_FOLDER, 200_000))
    assert quota(tmp_path) == 2
    (tmp_path / V1_FOLDER / "cpu.cfs_period_us").unlink()
    assert quota(tmp_path) is None


def test_unreadable_and_missing_files_set_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path) is None
    (tmp_path / "sys/fs/cgroup/own/cpu.max").mkdir(parents=True)  # reading a folder fails for root
    lay_out(tmp_path, "0::/own", V2, {})
    assert quota(tmp_path) is None
    assert cpus(tmp_path) == len(os.sched_getaffinity(0))
    (tmp_path / "proc/self/cgroup").unlink()
    assert quota(tmp_path) is None


scraps = st.lists(
    st.sampled_from([b"0", b"4", b":", b"cpu", b"/", b"..", b" ", b" - ", b"\n", b"\0", b"\xff"])
    | st.sampled_from([b"cgroup", b"cgroup2", b"rw", b",", b"max", b"100000", b"\\0", b"\\777"])
    | st.binary(max_size=3),
    max_size=40,
).map(b"".join)


@given(scraps, scraps, scraps)
def test_no_content_brings_it_down(
    tmp_path_factory: pytest.TempPathFactory, cgroups: bytes, mounts: bytes, limit: bytes
) -> None:
    root = lay_out(tmp_path_factory.mktemp("root"), "", "", {"sys/fs/cgroup/cpu.max": ""})
    (root / "proc/self/cgroup").write_bytes(b"0::/\n" + cgroups)
    (root / "proc/self/mountinfo").write_bytes(V2.encode() + b"\n" + mounts)
    (root / "sys/fs/cgroup/cpu.max").write_bytes(limit)
    assert 1 <= cpus(root) <= len(os.sched_getaffinity(0))


def test_this_machine() -> None:
    assert 1 <= cpus() <= len(os.sched_getaffinity(0))


UNLIMITED = 9223372036854771712
V1_MEMORY = "36 32 0:31 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("536870912", 536870912), ("max", None), ("", None), ("-1", None), ("1e9", None)],
)
def test_memory_within_a_cgroup_namespace(tmp_path: Path, limit: str, expected: int | None) -> None:
    lay_out(tmp_path, "0::/", V2, {"sys/fs/cgroup/memory.max": limit})
    assert memory(tmp_path) == expected
    assert quota(tmp_path) is None


@pytest.mark.parametrize(("limit", "expected"), [(UNLIMITED, None), (400_000_000, 400_000_000)])
def test_memory_by_v1(tmp_path: Path, limit: int, expected: int | None) -> None:
    files = {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(limit)}
    lay_out(tmp_path, "4:cpu,cpuacct:/\n5:memory:/own", V1 + "\n" + V1_MEMORY, files)
    assert memory(tmp_path) == expected


def test_the_smallest_of_nested_limits_counts(tmp_path: Path) -> None:
    folders = {"": "900000000", "pod": "max", "pod/a": "500000000", "pod/b": "1"}
    files = {f"sys/fs/cgroup/{at}/memory.max": limit for at, limit in folders.items()}
    assert memory(lay_out(tmp_path, "0::/pod/a", V2, files)) == 500_000_000


HOLDING = """
from tidecast.worker.service.quota import resident
before = resident()
held = b"x" * 50_000_000
print(resident() - before)
"""


def test_what_a_process_holds_is_known() -> None:
    """In a process of its own: what other tests leave behind goes back at any time."""
    grown = subprocess.check_output([sys.executable, "-c", HOLDING], text=True)
    assert 40_000_000 < int(grown) < 80_000_000


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Leave one CPU to this process and its children for the length of a test."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_cpu")
def test_affinity_counts_where_it_is_less(tmp_path: Path) -> None:
    lay_out(tmp_path, "0::/", V2, {"sys/fs/cgroup/cpu.max": "400000 100000"})
    assert (quota(tmp_path), cpus(tmp_path)) == (4, 1)


def log_and_threads(url: str, model: Path, threads: int) -> tuple[str, int]:
    """Run a worker until it follows its stream; return its log and how many threads it had."""
    command = [
        sys.executable,
        "-m",
        "tidecast.worker",
        "run",
        "--redis-url",
        url,
        "--models",
        str(model),
    ]
    command += ["--threads", str(threads)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        log = ""
        while "follow readings" not in log:
            log += process.stderr.readline()
            assert process.poll() is None, log
        held = len(list(Path(f"/proc/{process.pid}/task").iterdir()))
        process.send_signal(signal.SIGTERM)
        log += process.communicate(timeout=120)[1]
    assert process.returncode == 0, log
    return log, held


def test_a_worker_told_0_takes_what_is_allowed_and_a_number_as_given(
    server_url: str, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx")
    logs, held = zip(*(log_and_threads(server_url, model, n) for n in (0, 1, 3)), strict=True)
    told = re.findall(r"(\d+) threads? per model, as the CPU quota allows", logs[0])
    assert told == [str(cpus())]
    assert [number - held[1] for number in held] == [cpus() - 1, 0, 2]
    assert "CPU quota" not in logs[1] + logs[2]


@pytest.mark.usefixtures("one_cpu")
def test_a_worker_that_may_use_one_cpu_takes_one_thread(server_url: str, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx")
    log, held = log_and_threads(server_url, model, 0)
    assert "1 thread per model, as the CPU quota allows" in log
    assert held == log_and_threads(server_url, model, 1)[1]
