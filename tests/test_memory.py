"""Memory that is free, on this machine and on laid-out ones."""

import pytest

from edgefer.memory import available_memory


def test_here_it_is_a_number_of_bytes():
    assert 1 << 20 < available_memory() < 1 << 50


@pytest.fixture
def machine(tmp_path):
    def lay(group):
        for name, content in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n", **group}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="ascii")
        return tmp_path

    return lay


def group(limit, used, idle=0):
    stat = f"anon 7\ninactive_file {idle}\n"
    return {
        "sys/fs/cgroup/memory.max": f"{limit}\n",
        "sys/fs/cgroup/memory.current": f"{used}\n",
        "sys/fs/cgroup/memory.stat": stat,
    }


@pytest.mark.parametrize(
    ("found", "available"),
    [
        ({}, 5000 * 1024),
        (group("max", 4_000_000), 5000 * 1024),
        (group(3_000_000, 1_000_000), 2_000_000),
        (group(3_000_000, 2_900_000, 400_000), 500_000),
        (group(3_000_000, 3_100_000), 0),
        (group(9_000_000, 0), 5000 * 1024),
    ],
)
def test_a_container_has_what_its_limit_leaves(machine, found, available):
    assert available_memory(machine(found)) == available


def test_without_meminfo_free_pages_are_counted(tmp_path):
    assert available_memory(tmp_path) > 1 << 20
