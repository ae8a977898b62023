"""What is found out on four machines and on none, and what they are told to type."""

import shutil

import pytest

from edgefer.doctor.advice import before_measuring, capabilities_of, kind_of
from edgefer.doctor.probe import RELEASES, installed_packages, jetpack_of, power_mode
from edgefer.doctor.software import Module
from edgefer.doctor.text import diagnosis_json, facts_of, lines
from edgefer.engines.tensorrt.compat import JETPACKS
from edgefer.engines.tensorrt.cuda import Driver
from edgefer.runtimes import CPU, RUNTIMES, for_target
from tests.doctor.machines import DRIVERS, NO_DRIVER, ORIN, TREES, WHOLE, machine


def told(found):
    return {fact.key: fact.text for fact in facts_of(found)}


def capability(found, key):
    return next(a for a in capabilities_of(found) if a.key == key)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (
            "jetpack5",
            {
                "machine": "Jetson AGX Orin Developer Kit, ARMv8 Processor rev 1 (v8l), aarch64, 12 cores, "
                "Ubuntu 20.04.6 LTS, Linux 5.10.120",
                "memory": "30.0 GiB, 26.1 GiB of it free, swap 15.0 GiB",
                "power_mode": "MODE_30W (nvpmodel 2), CPU governor schedutil",
                "jetpack": "5.1.2 (L4T 35.4.1)",
                "driver": "35.4.1, for CUDA up to 11.4",
                "gpu": "Orin, SM87, memory shared with the CPU",
                "cuda": "11.4.298 (cuda-cudart-11-4)",
                "cudnn": "8.6.0.166 (libcudnn8, for CUDA 11.4)",
                "tensorrt_library": "8.5.2 (libnvinfer8, for CUDA 11.4)",
                "trtexec": "/usr/src/tensorrt/bin/trtexec",
            },
        ),
        (
            "jetpack6",
            {
                "power_mode": "15W (nvpmodel 0), CPU governor schedutil",
                "jetpack": "6.2.1 (L4T 36.4.7)",
                "driver": "540.4.0, for CUDA up to 12.6",
                "cuda": "12.6.68 (cuda-cudart-12-6)",
                "cudnn": "9.3.0.75 (libcudnn9-cuda-12)",
                "tensorrt_library": "10.3.0.30 (libnvinfer10, for CUDA 12.5)",
            },
        ),
        (
            "jetpack7",
            {
                "power_mode": "120W (nvpmodel 1), CPU governor performance",
                "jetpack": "7.0 (L4T 38.2.0)",
                "driver": "580.00, for CUDA up to 13.0",
                "tensorrt_library": "10.13.3.9 (libnvinfer10, for CUDA 13.0)",
                "trtexec": "not found",
            },
        ),
        (
            "desktop",
            {
                "machine": "12th Gen Intel(R) Core(TM) i5-12400, x86_64, 12 cores, Ubuntu 24.04.3 LTS, Linux 6.14.0",
                "power_mode": "no nvpmodel, CPU governor powersave",
                "jetpack": "none: not a Jetson",
                "driver": "570.86.15, for CUDA up to 12.8",
                "gpu": "NVIDIA GeForce RTX 3060, SM86",
                "cuda": "12.8.57 (cuda-cudart-12-8)",
                "cudnn": "no system library",
                "tensorrt_library": "10.8.0 (libnvinfer.so.10.8.0)",
            },
        ),
    ],
)
def test_facts(tree, expected):
    found = told(machine(tree))
    assert {key: found[key] for key in expected} == expected


def test_a_whole_jetpack_6_can_do_everything_but_train():
    found = machine("jetpack6", WHOLE)
    absent = {row.package for row in RUNTIMES.values() if row.opener} - set(WHOLE)
    assert absent >= {"openvino", "tensorrt_rtx"}
    assert {a.key for a in capabilities_of(found) if not a.works} == {*absent, "train"}
    assert capability(found, "tensorrt").what.endswith("engines for Orin, SM87 with TensorRT 10.3.0")
    assert before_measuring(found) == ("sudo nvpmodel -m 2", "sudo jetson_clocks"), "MAXN_SUPER has number 2 there"


def test_an_environment_that_does_not_see_the_systems_tensorrt():
    found = machine("jetpack6")
    assert "python3-libnvinfer is there, and this environment does not see it" in told(found)["tensorrt"]
    assert capability(found, "tensorrt").commands == (
        "sudo apt install python3-venv",
        "python3 -m venv --system-site-packages edgefer-env",
        "edgefer-env/bin/pip install edgefer 'cuda-python<13' 'numpy<2'",
    )
    assert capability(found, "csi").commands[0] == "sudo apt install libopencv-python"


def test_jetpack_5_builds_with_trtexec_from_a_bundle():
    found = machine("jetpack5", {"onnxruntime": WHOLE["onnxruntime"]})
    tensorrt = capability(found, "tensorrt")
    assert not tensorrt.works
    assert "Python 3.8" in tensorrt.why
    assert tensorrt.commands == (
        "edgefer deploy bundle model.onnx -o bundle  # on a host",
        "sh bundle/run.sh --with trtexec  # here",
    )
    assert capability(found, "trtexec").works
    assert before_measuring(found) == ("sudo nvpmodel -m 0", "sudo jetson_clocks")


def test_jetpack_7_lacks_the_python_package():
    found = machine("jetpack7")
    assert capability(found, "tensorrt").commands[0] == "sudo apt install python3-libnvinfer python3-venv"
    assert "'cuda-python<14'" in capability(found, "tensorrt").commands[2]
    assert capability(found, "trtexec").commands == ("sudo apt install libnvinfer-bin",)
    assert "edgefer-env/bin/pip install 'edgefer[cpu]' 'numpy<2'" in capability(found, "onnxruntime").commands


def test_a_desktop_with_a_driver_and_without():
    assert capability(machine("desktop"), "tensorrt").commands == (
        "pip install edgefer tensorrt-cu12 'cuda-python<13'",
    )
    bare = machine("desktop", driver=NO_DRIVER)
    assert told(bare)["gpu"] == "an NVIDIA GPU is in a slot, and no driver runs it"
    assert capability(bare, "tensorrt").why.startswith("there is no NVIDIA driver here")
    assert capability(bare, "tensorrt").commands[0] == "sudo ubuntu-drivers install"


def test_a_jetson_in_a_container_without_its_driver():
    found = machine("jetpack6", WHOLE, NO_DRIVER)
    assert capability(found, "tensorrt").commands[0].startswith("docker run --runtime nvidia")
    assert not capability(found, "trtexec").works


@pytest.mark.parametrize(
    ("changes", "driver", "why"),
    [
        ({"tensorrt": Module("8.4.1")}, ORIN, "TensorRT 8.4.1 is older than anything"),
        (
            {"cuda": Module(None, "not installed")},
            ORIN,
            "no Python package can take memory on the GPU (cuda: not installed",
        ),
        (
            {"cuda": Module("13.0.3", None, {"for_cuda": 13})},
            ORIN,
            "cuda-bindings is for CUDA 13, and the driver serves",
        ),
        ({"tensorrt": Module(None, "ImportError: x")}, ORIN, "Python's tensorrt: ImportError: x"),
        ({}, Driver("11.4", ORIN.devices, None), "is for CUDA 12.5, and the driver serves CUDA up to 11.4"),
        ({}, Driver("12.6", (), None), "the driver has no GPU"),
    ],
)
def test_reasons_against_tensorrt(changes, driver, why):
    found = capability(machine("jetpack6", {**WHOLE, **changes}, driver), "tensorrt")
    assert not found.works
    assert why in found.why


def test_a_tensorrt_of_pip_for_a_newer_cuda_than_the_driver():
    """`pip install tensorrt` brings the one for CUDA 13."""
    modules = {**WHOLE, "tensorrt": Module("11.4.0.106", None, {"for_cuda": 13})}
    found = capability(machine("desktop", modules), "tensorrt")
    assert found.why == "Python's TensorRT 11.4.0.106 is for CUDA 13, and the driver serves CUDA up to 12.8"
    assert found.commands == (
        "pip uninstall tensorrt tensorrt-cu13 tensorrt-cu13-libs tensorrt-cu13-bindings",
        "pip install edgefer tensorrt-cu12 'cuda-python<13'",
    )
    assert capability(machine("desktop", modules, Driver("13.0", ORIN.devices, None)), "tensorrt").works


def test_pycuda_does_as_well():
    modules = {**WHOLE, "cuda": Module(None, "not installed"), "pycuda": Module("2024.1")}
    assert capability(machine("jetpack6", modules), "tensorrt").works


def test_an_opencv_of_pip_hides_the_systems():
    found = machine("jetpack6", {**WHOLE, "cv2": Module("4.12.0", None, {"gstreamer": False})})
    assert capability(found, "csi").why == "OpenCV was built without GStreamer"
    assert capability(found, "csi").commands[0] == "pip uninstall opencv-python"
    assert capability(found, "camera").works


@pytest.mark.parametrize("tree", ["jetpack5", "jetpack6", "jetpack7", "desktop", "nothing"])
def test_the_schema_is_the_same_everywhere(tree, tmp_path):
    """Programs read these keys: they may grow, with a new schema number."""
    found = machine("desktop", driver=NO_DRIVER, root=tmp_path) if tree == "nothing" else machine(tree)
    json = diagnosis_json(found)
    assert json["schema"] == 1
    assert set(json) == {"schema", "edgefer", "kind", "facts", "capabilities", "before_measuring"}
    cpu = [row.package for row in for_target(CPU).values()]
    assert cpu[:2] == ["onnxruntime", "openvino"]
    assert list(json["facts"]) == [
        *("machine", "memory", "power_mode", "python", "edgefer", "jetpack", "driver", "gpu", "cuda", "cudnn"),
        *(
            "tensorrt_library",
            "tensorrt",
            "trtexec",
            *cpu,
            "tensorrt_rtx",
            "cuda_bindings",
            "pycuda",
            "opencv",
            "torch",
        ),
    ]
    assert list(json["capabilities"]) == [
        *(*cpu, "tensorrt", "trtexec", "tensorrt_rtx", "onnx_only", "train", "camera", "csi")
    ]
    assert all({"found", "text"} <= set(fact) for fact in json["facts"].values())
    assert json["kind"] == {"desktop": "nvidia", "nothing": "plain"}.get(tree, tree)
    assert all("\n" not in line for line in lines(found))


def test_a_machine_that_tells_nothing(tmp_path):
    found = machine("desktop", driver=NO_DRIVER, root=tmp_path)
    assert told(found)["memory"] == "unknown, unknown of it free, swap unknown"
    assert capability(found, "tensorrt").commands == ()
    assert "To get the rest" in list(lines(found))


def test_damaged_files_are_as_good_as_none(tmp_path):
    for name, content in {
        "etc/nv_tegra_release": "R36",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=x NAME=MAXN >\n< POWER_MODEL",
        "var/lib/nvpmodel/status": "\0\0",
        "var/lib/dpkg/status": "Package: libnvinfer10\nVersion",
        "usr/local/cuda/version.json": '{"cuda": {',
        "proc/driver/nvidia/version": "NVRM version: ",
        "proc/meminfo": "MemTotal: many kB",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = machine("desktop", root=tmp_path)
    assert (found.l4t, found.power, found.machine.driver, found.machine.memory_bytes) == (None, None, None, None)
    assert (found.libraries.cuda, found.libraries.tensorrt) == (None, None)


def test_l4t_comes_from_its_package_where_its_file_is_not_mounted(tmp_path):
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    shutil.copy(TREES / "jetpack7/var/lib/dpkg/status", tmp_path / "var/lib/dpkg/status")
    assert machine("jetpack7", root=tmp_path).l4t == "38.2.0"


def test_packages_that_were_removed_do_not_count():
    packages = installed_packages(TREES / "jetpack5")
    assert "cuda-cudart-10-2" not in packages
    assert packages["nvidia-l4t-core"] == "35.4.1-20230801124926", "it is on hold, and installed"


def test_a_mode_that_the_list_does_not_name(tmp_path):
    (tmp_path / "var/lib/nvpmodel").mkdir(parents=True)
    (tmp_path / "var/lib/nvpmodel/status").write_text("pmode:0007 fmode:quiet")
    mode = power_mode(tmp_path)
    assert (mode.number, mode.name, mode.unlimited) == (7, "", None)


def test_every_jetpack_is_one_that_is_built_for():
    for jetpack in RELEASES.values():
        assert any(jetpack.startswith(name.removeprefix("jetpack")) for name in JETPACKS), jetpack
    assert jetpack_of("36.9.9", {}) == "6", "a later release: its generation is known"
    assert jetpack_of("50.1.0", {}) is None
    assert kind_of(machine("jetpack5", driver=DRIVERS["jetpack5"])) == "jetpack5"
