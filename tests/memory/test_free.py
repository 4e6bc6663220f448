import platform
from types import SimpleNamespace

import psutil
import pytest

from labkit.memory.free import available_memory, return_freed_memory

GIGABYTE = 10**9


@pytest.fixture
def computer(tmp_path, monkeypatch):
    """Makes a computer with 100 GB available, and the control groups of a process in it: {folder: {file: text}}."""

    def make(cgroup, groups):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GIGABYTE))
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
        for folder, files in groups.items():
            path = tmp_path / "sys" / "fs" / "cgroup" / folder
            path.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (path / name).write_text(f"{text}\n")
        return tmp_path

    return make


def v2(limit, usage, cached=0):
    return {"memory.max": limit, "memory.current": usage, "memory.stat": f"anon 5\ninactive_file {cached}\nslab 7"}


def v1(limit, usage, cached=0):
    stat = f"inactive_file 1\ntotal_inactive_file {cached}"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": usage, "memory.stat": stat}


def test_a_limit_counts_less_what_is_used_but_for_cached_files(computer):
    root = computer("0::/\n", {"": v2(8 * GIGABYTE, 3 * GIGABYTE, 10**9)})
    assert available_memory(root) == 6 * GIGABYTE


def test_the_tightest_of_all_levels_counts(computer):
    groups = {
        "a.slice": v2(6 * GIGABYTE, 5 * GIGABYTE),
        "a.slice/b c.scope": v2("max", 1),
        "a.slice/b c.scope/d": v2(5 * GIGABYTE, 1 * GIGABYTE),
        "other.slice": v2(1, 1),
    }
    assert available_memory(computer("0::/a.slice/b c.scope/d\n", groups)) == 1 * GIGABYTE


def test_version_1_and_a_mixture_of_both(computer):
    cgroup = "9:name=systemd:/\n4:cpu,memory:/docker/12\n3:cpuset:/docker/12\n0::/docker/12\n"
    groups = {"memory/docker/12": v1(4 * GIGABYTE, GIGABYTE), "memory": v1(9223372036854771712, 50 * GIGABYTE)}
    groups["unified/docker/12"] = v2(9 * GIGABYTE, 0)
    assert available_memory(computer(cgroup, groups)) == 3 * GIGABYTE


def test_inside_a_container_the_path_may_be_the_hosts(computer):
    cgroup = "4:memory:/docker/12\n0::/../../host\n"
    assert available_memory(computer(cgroup, {"memory": v1(2 * GIGABYTE, GIGABYTE)})) == 1 * GIGABYTE


def test_without_a_limit_the_computer_counts(computer):
    damaged = {"a": {"memory.max": "max"}, "b": {"memory.max": ""}, "memory": {"memory.stat": "x y z"}}
    cgroup = "0::/a\n0::/b\n1:memory:/\nnonsense\n"
    assert available_memory(computer(cgroup, damaged)) == 100 * GIGABYTE


def test_a_limit_that_is_exceeded_leaves_nothing(computer):
    assert available_memory(computer("0::/\n", {"": v2(1, GIGABYTE)})) == 0


def test_systems_without_control_groups(tmp_path):
    assert available_memory(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_group_whose_statistics_are_not_there_counts_without_them(computer):
    limit = {"memory.max": 8 * GIGABYTE, "memory.current": 3 * GIGABYTE}
    assert available_memory(computer("0::/\n", {"": limit})) == 5 * GIGABYTE


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_freed_memory_goes_back_to_the_system():
    blocks = [bytearray(2**16) for _ in range(4000)]  # 262 MB, in blocks that glibc keeps
    blocks = blocks[-1:]  # and the last one lies above the others
    before = psutil.Process().memory_info().rss
    return_freed_memory()
    assert before - psutil.Process().memory_info().rss > 200e6
