"""Sensors on laid-out trees, counters that wrap, a fake NVML, and a second process that really watches this one."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from edgefer.measure.sensors import Nvml, PowerMonitors, Rapl, Sensors, Tegrastats, parse_tegrastats
from edgefer.measure.telemetry import Recorder, Recording, Watch
from tests.measure.sysfs_trees import LAPTOP, NANO, ORIN_NANO, RASPBERRY_PI, TEGRASTATS, THOR, plant


def test_a_laptop_tells_clock_heat_throttling_load_and_memory(tmp_path):
    found = Sensors(plant(tmp_path, LAPTOP), pid=42, cores=frozenset({0})).read()
    assert found["mhz"] == 3600, "the fastest core's"
    assert found["celsius"] == {"x86_pkg_temp": 61, "coretemp temp1": 64}
    assert found["throttle_events"] == 7
    assert found["throttling"] == [], "a fan that turns throttles nothing"
    assert found["busy_s"] == pytest.approx((500 + 20 + 60 + 3 + 2 + 5) / 100)
    assert (found["rss_bytes"], found["peak_rss_bytes"]) == (250_000 * 1024, 300_000 * 1024)


def test_a_machine_that_tells_nothing_gives_nothing(tmp_path):
    assert Sensors(tmp_path, pid=42).read() == {"throttling": []}
    assert Rapl(tmp_path).read() == PowerMonitors(tmp_path).read() == {}
    assert not Rapl(tmp_path).forbidden
    summary = Recording(({"t": 0.0, "throttling": []}, {"t": 1.0, "throttling": []}), 0.2).summary()
    assert summary["untold"] == ["mhz", "celsius", "watts"]


def test_sensors_that_sleep_or_answer_nonsense_are_absent(tmp_path):
    plant(tmp_path, {**LAPTOP, "sys/class/thermal/thermal_zone0/temp": "-", "proc/cpuinfo": "cpu MHz\t\t: 2596.1"})
    (tmp_path / "sys/class/hwmon/hwmon2/temp1_input").unlink()
    for core in (0, 1):
        (tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq").unlink()
    found = Sensors(tmp_path).read()
    assert "celsius" not in found
    assert found["mhz"] == 2596.1, "a virtual machine without cpufreq has it in cpuinfo"


def test_a_pi_and_a_jetson_say_that_they_are_held_back(tmp_path):
    limits = Sensors(plant(tmp_path / "pi", RASPBERRY_PI)).read()["throttling"]
    assert limits == ["cpufreq-cpu0 (cooling_device0) is cooling", "the firmware throttles (get_throttled 0x80008)"]
    past = {**RASPBERRY_PI, "sys/devices/platform/soc/soc:firmware/get_throttled": "80000"}
    assert len(Sensors(plant(tmp_path / "past", past)).read()["throttling"]) == 1, "bit 19: it happened once, not now"
    assert Sensors(plant(tmp_path / "orin", ORIN_NANO)).read()["throttle_events"] == 2


def test_a_zone_that_always_says_the_same_is_left_out(tmp_path):
    assert Sensors(plant(tmp_path, NANO)).read()["celsius"] == {"CPU-therm": 39}


def test_rapl_adds_packages_up_and_does_not_wrap(tmp_path):
    rapl = Rapl(plant(tmp_path, LAPTOP))
    assert rapl.read() == {"joules": 0}
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.write_text("262100000000\n")
    assert rapl.read()["joules"] == pytest.approx(100)
    counter.write_text("6671150\n")  # past the end of its range
    assert rapl.read()["joules"] == pytest.approx(100 + 43.32885 + 6.67115)


def test_rapl_that_only_root_may_read_is_said(tmp_path):
    plant(tmp_path, LAPTOP)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    watch = Watch(tmp_path, None, None)
    assert watch.read()["forbidden"] == ["RAPL (its counters may be read by root only)"]
    readings = (watch.read(lambda: 0.0), watch.read(lambda: 1.0))
    assert "RAPL (its counters may be read by root only)" in Recording(readings, 0.2).summary()["untold"]


def test_jetson_rails(tmp_path):
    found = PowerMonitors(plant(tmp_path / "orin", ORIN_NANO)).read()
    assert found["watts"] == pytest.approx(4.944 * 0.976), "VDD_IN feeds the others: they are not added"
    assert set(found["rails"]) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}
    assert PowerMonitors(plant(tmp_path / "nano", NANO)).read()["watts"] == pytest.approx(2.132)
    agx = {k: v.replace("VDD_IN", "VDD_GPU_SOC") for k, v in ORIN_NANO.items()}
    rails = PowerMonitors(plant(tmp_path / "agx", agx)).read()
    assert rails["watts"] == pytest.approx(sum(rails["rails"].values())), "no rail feeds the whole board"


def test_every_monitor_of_a_board_counts_and_thors_input_feeds_the_others(tmp_path):
    found = PowerMonitors(plant(tmp_path / "thor", THOR)).read()
    assert found["rails"] == {
        "VDD_GPU": pytest.approx(-0.392),
        "VDD_CPU_SOC_MSS": pytest.approx(3.924),
        "VIN_SYS_5V0": pytest.approx(5.064),
        "VIN": pytest.approx(15.004),
    }
    assert found["watts"] == pytest.approx(15.004)
    other = {"sys/class/hwmon/hwmon4/name": "ina226", "sys/class/hwmon/hwmon4/in0_input": "3"}
    own = {"sys/class/hwmon/hwmon4/in1_input": "12000", "sys/class/hwmon/hwmon4/curr1_input": "500"}
    assert PowerMonitors(plant(tmp_path / "other", {**other, **own})).read()["rails"] == {"ina226 (hwmon4)": 6.0}


def test_the_gpu_of_a_board_tells_its_clock_and_what_cools_it(tmp_path):
    found = Sensors(plant(tmp_path / "orin", ORIN_NANO)).read()
    assert (found["gpu_mhz"], found["gpu_max_mhz"]) == (306, 1020), "the fastest it has, not the power mode's limit"
    assert found["throttling"] == ["devfreq-17000000.gpu (cooling_device3) is cooling"]
    assert Watch(tmp_path / "orin", None, None, uses_gpu=True).read()["gpu_mhz"] == 306
    assert "gpu_mhz" not in Watch(tmp_path / "orin", None, None).read(), "an idle GPU's clock is nobody's business"
    thor = Sensors(plant(tmp_path / "thor", THOR)).read()
    assert (thor["gpu_mhz"], thor["gpu_max_mhz"]) == (315, 1575), "without a list, the limit"
    assert "gpu_mhz" not in Sensors(plant(tmp_path / "pi", RASPBERRY_PI)).read()


def test_a_gpu_below_its_fastest_clock_is_said():
    (said,) = readings(gpu_mhz=[306.0] * 9, gpu_max_mhz=[1020.0] * 9).gpu_below()
    assert said.startswith("the GPU ran at 306 MHz (median) and can do 1,020")
    assert "jetson_clocks" in said
    assert not list(readings(gpu_mhz=[1000.0] * 9, gpu_max_mhz=[1020.0] * 9).gpu_below())
    assert not list(readings(mhz=[1000.0] * 9).gpu_below())
    found = readings(gpu_mhz=[306.0, 306.0, 408.0], gpu_max_mhz=[1020.0] * 3).summary()["gpu_mhz"]
    assert found == {"min": 306.0, "median": 306.0, "max": 408.0, "fastest": 1020.0}


def test_tegrastats_lines():
    orin = parse_tegrastats(TEGRASTATS["orin nano, JetPack 6"])
    assert orin["watts"] == 5.12, "now, not the mean"
    assert orin["celsius"] == {"cpu": 46.25, "tj": 47.5}, "a zone at −256 is off"
    assert orin["gpu_mhz"] == 305
    agx = parse_tegrastats(TEGRASTATS["agx orin, JetPack 5"])
    assert "gpu_mhz" not in agx, "it tells only the load"
    assert agx["watts"] == pytest.approx(3.2 + 0.4 + 2.4)
    nano = parse_tegrastats(TEGRASTATS["nano, JetPack 4"])
    assert nano["watts"] == 2.14
    assert nano["celsius"] == {"PLL": 36.5, "CPU": 39, "GPU": 37}
    thor = parse_tegrastats(TEGRASTATS["thor, JetPack 7"])
    assert thor["watts"] == 15.004, "VIN is the whole board: the sum of the other rails is 8.6 W"
    assert thor["rails"]["VDD_GPU"] == -0.392
    assert parse_tegrastats("") == {}


def test_the_tool_is_started_read_and_ended(tmp_path):
    tool = tmp_path / "tegrastats"
    line = TEGRASTATS["nano, JetPack 4"]
    tool.write_text(f"#!/bin/sh\nwhile true; do echo '{line}'; sleep 0.02; done\n")
    tool.chmod(0o755)
    running = Tegrastats(str(tool), 20)
    reading = Watch(tmp_path, None, None, tegrastats=running).read()
    assert "gpu_mhz" not in reading
    assert Watch(tmp_path, None, None, tegrastats=running, uses_gpu=True).read()["gpu_mhz"] == 76
    assert reading["power"]["tegrastats"]["watts"] == 2.14
    assert reading["celsius"]["CPU"] == 39
    running.close()
    assert running._process.poll() is not None


CUDAS = "11223344-5566-7788-99aa-bbccddeeff00"


class FakeNvml:
    """A fake of libnvidia-ml: the GPUs ``uuids``, of which the asked one is thermally throttled."""

    def __init__(self, *uuids, clock=True):
        self.uuids, self.clock = uuids, clock

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.uuids)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        device._obj.value = 1 + index.value
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid, device):
        if uuid.value.decode() not in self.uuids:
            return 6  # NVML_ERROR_NOT_FOUND
        device._obj.value = 1 + self.uuids.index(uuid.value.decode())
        return 0

    def nvmlSystemGetDriverVersion(self, text, size):
        text.value = b"570.86.10"
        return 0

    def nvmlDeviceGetPowerUsage(self, device, value):
        value._obj.value = 70_500 + 1000 * device.value
        return 0

    def nvmlDeviceGetTemperature(self, device, sensor, value):
        value._obj.value = 83
        return 0

    def nvmlDeviceGetClockInfo(self, device, kind, value):
        value._obj.value = 1200
        return 0 if self.clock else 3  # NVML_ERROR_NOT_SUPPORTED

    def nvmlDeviceGetMaxClockInfo(self, device, kind, value):
        value._obj.value = 1980
        return 0 if self.clock else 3

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device, value):
        assert isinstance(value._obj, ctypes.c_ulonglong)
        value._obj.value = 0x1 | 0x40
        return 0


def test_nvml_tells_watts_heat_clock_and_what_slows_the_gpu(tmp_path):
    only = FakeNvml(f"GPU-{CUDAS}", clock=False)
    assert Nvml(only, "").read() == {"watts": 71.5, "celsius": 83, "throttling": ["GPU: hardware thermal slowdown"]}
    assert Nvml(only, "").driver() == "570.86.10"
    reading = Watch(tmp_path, None, None, gpu=Nvml(FakeNvml(f"GPU-{CUDAS}"), CUDAS)).read(lambda: 7.0)
    assert reading["throttling"] == ["GPU: hardware thermal slowdown"]
    assert reading["power"] == {"NVML": {"watts": 71.5, "celsius": 83}}
    assert (reading["gpu_mhz"], reading["gpu_max_mhz"]) == (1200, 1980)
    assert reading["t"] == 7.0


def test_nvml_watches_the_gpu_that_cuda_means_and_no_other(tmp_path):
    other = "GPU-ffffffff-0000-0000-0000-000000000000"
    assert Nvml(FakeNvml(other, f"GPU-{CUDAS}"), CUDAS).read()["watts"] == 72.5, "NVML's second is CUDA's first"
    assert Nvml(FakeNvml(other, f"MIG-{CUDAS}"), CUDAS).read()["watts"] == 72.5, "a part of a GPU"
    assert not Nvml(FakeNvml(other, other), CUDAS).ready, "none that is not the one"
    assert Nvml(FakeNvml(other), CUDAS).ready, "a Jetson's NVML may give its only GPU another name"


def readings(**columns):
    length = len(next(iter(columns.values())))
    rows = [{"t": 0.2 * i, "throttling": []} for i in range(length)]
    for key, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[key] = value
    return Recording(tuple(rows), 0.2)


def test_reasons_to_believe_in_throttling():
    assert list(readings(mhz=[3000] * 9).throttled()) == []
    assert list(readings(mhz=[3000] * 6 + [2800] * 3).throttled()) == [], "7 % is within what boost clocks do"
    assert list(readings(mhz=[3000] * 6 + [2000] * 3).throttled()) == ["the clock fell from 3,000 to 2,000 MHz"]
    falling = readings(gpu_mhz=[1020.0] * 6 + [612.0] * 3)
    assert list(falling.throttled()) == ["the GPU's clock fell from 1,020 to 612 MHz"]
    assert list(readings(throttle_events=[7, 7, 9]).throttled()) == ["the processor was throttled 2 times"]
    limited = readings(throttling=[[], ["GPU: power cap"], ["GPU: power cap"]])
    assert list(limited.throttled()) == ["throttled: GPU: power cap"]


def test_energy_is_a_counters_difference_or_power_over_time():
    counter = readings(power=[{"RAPL packages": {"joules": 3.0 * i}} for i in range(11)])
    assert counter.joules(0.5, 1.5) == ("RAPL packages", pytest.approx(15.0)), "15 W for a second, between readings"
    steady = readings(power=[{"INA monitors": {"watts": 5.0}, "RAPL packages": {"joules": i}} for i in range(11)])
    assert steady.joules(0.3, 1.3) == ("INA monitors", pytest.approx(5.0)), "the whole board before the processor"
    rising = readings(power=[{"NVML": {"watts": 10.0 * i}} for i in range(11)])
    assert rising.joules(0.2, 0.6) == ("NVML", pytest.approx(0.2 * 10 + 0.2 * 20))
    assert counter.joules(0.5, 9.0) is None, "the readings do not reach so far"
    assert readings(mhz=[1, 2]).joules(0, 0.2) is None


def test_a_summary_of_a_stretch():
    recording = readings(
        mhz=[1000, 2000, 2000, 2000, 2000, 2000],
        busy_s=[0, 0.3, 0.6, 0.9, 1.2, 1.5],
        celsius=[{"a": 40, "b": 50 + i} for i in range(6)],
        rss_bytes=[5, 6, 9, 8, 7, 6],
        power=[{"INA monitors": {"watts": 5.0}}] * 6,
    )
    found = recording.summary()
    assert found["cpu_load"] == pytest.approx(1.5)
    assert found["celsius"] == {"zone": "b", "first": 50, "last": 55, "max": 55}
    assert found["rss_bytes"] == 9
    assert (found["watts"], found["power_source"]) == (pytest.approx(5.0), "INA monitors")
    assert found["mhz"]["min"] == 1000
    assert found["untold"] == []
    part = recording.between(0.5, 0.9)
    assert [reading["t"] for reading in part.readings] == pytest.approx([0.4, 0.6, 0.8])
    json.dumps(found)


def test_a_second_process_watches_this_one():
    before = time.monotonic()
    with Recorder(0.05) as recorder:
        block = bytearray(60_000_000)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(0.4)
        recording = recorder.recording()
        process = recorder._process
    assert process.poll() is not None, "it ends with the block"
    assert len(recording.readings) >= 3
    assert before < recording.readings[0]["t"] <= recording.readings[-1]["t"] < time.monotonic(), "one clock for both"
    assert recording.readings[-1]["rss_bytes"] > 60_000_000
    assert recording.summary()["cpu_load"] >= 0


def test_the_watching_process_ends_when_its_parent_is_killed():
    program = (
        "import time\nfrom edgefer.measure.telemetry import Recorder\n"
        "with Recorder(0.05) as r:\n    print(r._process.pid, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not is_running(child):
            break
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_without_a_second_process_that_is_said_and_nothing_breaks(monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with Recorder() as recorder:
        assert recorder.recording().readings == ()
        assert recorder.recording().summary()["readings"] == 0
    assert "no telemetry" in capsys.readouterr().err
