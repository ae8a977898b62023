"""Instruction sets, read from what Linux prints on two kinds of CPU."""

import pytest

from edgefer.engines.cpu import instruction_set, saturates

SERVER = "processor\t: 0\nflags\t\t: fpu sse sse4_1 avx avx2 fma avx512f avx512_vnni avx512_bf16 erms\n"
LAPTOP = "processor\t: 0\nflags\t\t: fpu sse4_1 avx f16c avx2 fma\n"
ORIN = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp asimddp\nCPU part\t: 0xd42\n"
GRACE = "Features\t: fp asimd asimdhp asimddp sve i8mm bf16 sve2\n"


def test_x86():
    assert instruction_set(SERVER, "x86_64") == (
        *("sse4_1", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"),
    )


def test_aarch64():
    assert instruction_set(ORIN, "aarch64") == ("asimd", "asimdhp", "asimddp")
    assert {"i8mm", "bf16"} <= set(instruction_set(GRACE, "aarch64"))


def test_elsewhere_it_is_empty():
    assert instruction_set("", "x86_64") == ()
    assert instruction_set("Hardware: unknown\n", "riscv64") == ()


def test_here_it_is_a_tuple_of_known_names():
    assert all(isinstance(name, str) for name in instruction_set())


@pytest.mark.parametrize(
    ("cpu", "machine", "expected"),
    [(SERVER, "x86_64", False), (LAPTOP, "x86_64", True), (ORIN, "aarch64", False), ("", "x86_64", False)],
)
def test_only_x86_without_vnni_saturates(cpu, machine, expected):
    assert saturates(instruction_set(cpu, machine)) is expected


def test_avx_vnni_of_client_cpus_counts():
    assert not saturates(("avx2", "avx_vnni"))
