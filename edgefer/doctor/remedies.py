"""The commands that bring what is missing: another list for each JetPack, for desktops and for machines without a GPU.

docs/jetson.md says why they are these: on a Jetson TensorRT and OpenCV are the system's, and nothing may be installed
over them.
"""

from __future__ import annotations

from typing import Final, Literal

from edgefer.doctor.diagnosis import Diagnosis

Kind = Literal["jetpack4", "jetpack5", "jetpack6", "jetpack7", "nvidia", "plain"]

ENVIRONMENT: Final = "edgefer-env"
_VENV: Final = f"python3 -m venv --system-site-packages {ENVIRONMENT}"
_FROM_A_HOST: Final = (
    "edgefer deploy bundle model.onnx -o bundle  # on a host",
    "sh bundle/run.sh --with trtexec  # here",
)
_NEWEST_CUDA: Final = 13


def kind_of(found: Diagnosis) -> Kind:
    """What kind of machine it is, as far as installing goes."""
    generation = (found.jetpack or "").split(".")[0]
    if generation in ("4", "5", "6", "7"):
        kinds: dict[str, Kind] = {"4": "jetpack4", "5": "jetpack5", "6": "jetpack6", "7": "jetpack7"}
        return kinds[generation]
    return "nvidia" if found.driver.cuda is not None or found.machine.nvidia_pci else "plain"


def has_own_environment(found: Diagnosis) -> bool:
    """Whether edgefer belongs into an environment that sees the system's packages: on JetPack 6 and 7."""
    return kind_of(found) in ("jetpack6", "jetpack7")


def cuda_python(found: Diagnosis) -> str:
    """The requirement for cuda-python: its major version is CUDA's, and a newer one asks for a newer driver."""
    major = _cuda_major(found)
    return f"'cuda-python<{(_NEWEST_CUDA if major is None else major) + 1}'"


def _cuda_major(found: Diagnosis) -> int | None:
    """Of what the driver serves or, without one, of the system's libraries."""
    serves = found.driver.cuda or (found.libraries.cuda.version if found.libraries.cuda else "")
    major = serves.split(".", maxsplit=1)[0]
    return int(major) if major.isdigit() else None


def for_tensorrt(found: Diagnosis) -> tuple[str, ...]:
    """For building and running TensorRT engines in Python."""
    kind = kind_of(found)
    if kind in ("jetpack4", "jetpack5"):
        return _FROM_A_HOST if kind == "jetpack5" else ()
    if kind == "plain":
        return ()
    driver = _driver_commands(found)
    if has_own_environment(found):
        return (*driver, *_jetson_environment(found))
    return (*driver, *_wrong_wheels(found), f"pip install edgefer {_wheel(found)} {cuda_python(found)}")


def _wheel(found: Diagnosis) -> str:
    """Pip's TensorRT for this driver: what is called ``tensorrt`` is for CUDA 13.

    https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/installing-tensorrt/install-pip.html
    """
    major = _cuda_major(found)
    return "tensorrt" if major is None else f"tensorrt-cu{min(major, _NEWEST_CUDA)}"


def _wrong_wheels(found: Diagnosis) -> tuple[str, ...]:
    """Wheels for two CUDAs lie in the same folders."""
    here, major = found.module("tensorrt").told.get("for_cuda"), _cuda_major(found)
    if here is None or major is None or here <= major:
        return ()
    names = " ".join(f"tensorrt-cu{here}{part}" for part in ("", "-libs", "-bindings"))
    return (f"pip uninstall tensorrt {names}",)


def for_trtexec(found: Diagnosis) -> tuple[str, ...]:
    """For NVIDIA's own builder."""
    kind = kind_of(found)
    if kind == "plain":
        return ()
    if kind == "nvidia":
        return (*_driver_commands(found), "sudo apt install libnvinfer-bin  # from NVIDIA's repository of packages")
    return (*_driver_commands(found), *(() if found.libraries.trtexec else ("sudo apt install libnvinfer-bin",)))


def for_extra(found: Diagnosis, module: str, extra: str) -> tuple[str, ...]:
    """For a Python package that an extra of edgefer brings; the system's own one where a Jetson has it."""
    if has_own_environment(found):
        if module == "cv2":
            return ("sudo apt install libopencv-python", *_environment_pip(found, "edgefer"))
        return _environment_pip(found, f"'edgefer[{extra}]'")
    return (f"pip install 'edgefer[{extra}]'",)


def for_csi(found: Diagnosis) -> tuple[str, ...]:
    """For an OpenCV with GStreamer."""
    if found.module("cv2").works:  # pip's hides the system's
        return ("pip uninstall opencv-python", "sudo apt install libopencv-python")
    return for_extra(found, "cv2", "camera")


def for_measuring(found: Diagnosis) -> tuple[str, ...]:
    """For clocks that stand still while something is measured."""
    mode = found.power
    if mode is None:
        return ()
    faster = () if mode.unlimited in (None, mode.number) else (f"sudo nvpmodel -m {mode.unlimited}",)
    return (*faster, "sudo jetson_clocks")


def _driver_commands(found: Diagnosis) -> tuple[str, ...]:
    if found.driver.problem is None:
        return ()
    if found.l4t is not None:
        return ("docker run --runtime nvidia …  # if this is a container",)
    if found.driver.cuda is not None:
        return ("nvidia-smi  # says why no GPU can be used", "docker run --gpus all …  # if this is a container")
    names = {"ubuntu": "sudo ubuntu-drivers install", "debian": "sudo apt install nvidia-driver"}
    return (names.get(found.machine.distribution or "", "# install NVIDIA's driver: https://www.nvidia.com/drivers"),)


def _jetson_environment(found: Diagnosis) -> tuple[str, ...]:
    needed = [] if found.libraries.tensorrt else ["nvidia-jetpack"]
    needed += [] if found.libraries.python_bindings else ["python3-libnvinfer"]
    return (f"sudo apt install {' '.join([*needed, 'python3-venv'])}", *_environment_pip(found, "edgefer", cuda=True))


def _environment_pip(found: Diagnosis, what: str, *, cuda: bool = False) -> tuple[str, ...]:
    """NumPy below 2: the system's OpenCV was compiled for it."""
    packages = [what, *([cuda_python(found)] if cuda else []), "'numpy<2'"]
    return (_VENV, f"{ENVIRONMENT}/bin/pip install {' '.join(packages)}")
