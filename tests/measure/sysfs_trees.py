"""Trees of /proc and /sys as the kernel's documents and NVIDIA's guides lay them out, file by file.

x86: Documentation/admin-guide/pm/cpufreq.rst, power/powercap/powercap.rst. Jetson: hwmon/ina3221.rst, the Jetson Linux
developer guide's tables of rails, and (JetPack 4) the ina3221x driver's attributes; hwmon/ina238.rst and
ABI/testing/sysfs-class-devfreq for Thor's.
"""

CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
THROTTLE = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"

LAPTOP = {
    CPUFREQ.format(0): "1800000",
    CPUFREQ.format(1): "3600000",
    THROTTLE.format(0): "3",
    THROTTLE.format(1): "4",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
    "sys/class/thermal/thermal_zone0/temp": "61000",
    "sys/class/thermal/cooling_device0/type": "Processor",
    "sys/class/thermal/cooling_device0/cur_state": "0",
    "sys/class/thermal/cooling_device1/type": "Fan",
    "sys/class/thermal/cooling_device1/cur_state": "3",
    "sys/class/hwmon/hwmon2/name": "coretemp",
    "sys/class/hwmon/hwmon2/temp1_input": "64000",
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "262000000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "77",
    "proc/stat": "cpu  900 0 100 5000 0 0 0 0 0 0\ncpu0 500 20 60 2000 9 3 2 5 0 0\n"
    "cpu1 400 0 40 3000 0 0 0 0 0 0\nintr 1",
    "proc/42/status": "Name:\tpython\nVmPeak:\t 900000 kB\nVmHWM:\t 300000 kB\nVmRSS:\t 250000 kB\n",
}

ORIN_NANO = {
    CPUFREQ.format(0): "729600",
    CPUFREQ.format(5): "1510400",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "50031",
    "sys/class/thermal/thermal_zone8/type": "tj-thermal",
    "sys/class/thermal/thermal_zone8/temp": "50250",
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": "4944",
    "sys/class/hwmon/hwmon1/curr1_input": "976",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
    "sys/class/hwmon/hwmon1/in2_input": "4936",
    "sys/class/hwmon/hwmon1/curr2_input": "104",
    "sys/class/hwmon/hwmon1/in3_label": "VDD_SOC",
    "sys/class/hwmon/hwmon1/in3_input": "4936",
    "sys/class/hwmon/hwmon1/curr3_input": "296",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages",
    "sys/class/hwmon/hwmon0/name": "soctherm_oc",
    "sys/class/hwmon/hwmon0/oc1_event_cnt": "0",
    "sys/class/hwmon/hwmon0/oc3_event_cnt": "2",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
    "sys/class/devfreq/17000000.gpu/max_freq": "624750000",
    "sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 408000000 624750000 1020000000",
    "sys/class/devfreq/15480000.nvdec/cur_freq": "793600000",
    "sys/class/thermal/cooling_device3/type": "devfreq-17000000.gpu",
    "sys/class/thermal/cooling_device3/cur_state": "1",
}

THOR = {
    "sys/class/hwmon/hwmon2/name": "ina3221",
    "sys/class/hwmon/hwmon2/in1_label": "VDD_GPU",
    "sys/class/hwmon/hwmon2/in1_input": "19600",
    "sys/class/hwmon/hwmon2/curr1_input": "-20",
    "sys/class/hwmon/hwmon2/in2_label": "VDD_CPU_SOC_MSS",
    "sys/class/hwmon/hwmon2/in2_input": "19620",
    "sys/class/hwmon/hwmon2/curr2_input": "200",
    "sys/class/hwmon/hwmon2/in3_label": "VIN_SYS_5V0",
    "sys/class/hwmon/hwmon2/in3_input": "5064",
    "sys/class/hwmon/hwmon2/curr3_input": "1000",
    "sys/class/hwmon/hwmon3/name": "ina238",
    "sys/class/hwmon/hwmon3/in0_input": "1",
    "sys/class/hwmon/hwmon3/in1_input": "20000",
    "sys/class/hwmon/hwmon3/curr1_input": "750",
    "sys/class/hwmon/hwmon3/power1_input": "15004000",
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "315000000",
    "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000",
    "sys/class/devfreq/gpu-nvd-0/cur_freq": "300000000",
}

NANO = {
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0": "POM_5V_IN",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": "2132",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_1": "POM_5V_GPU",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power1_input": "78",
    "sys/class/thermal/thermal_zone1/type": "CPU-therm",
    "sys/class/thermal/thermal_zone1/temp": "39000",
    "sys/class/thermal/thermal_zone4/type": "PMIC-Die",
    "sys/class/thermal/thermal_zone4/temp": "100000",
}

RASPBERRY_PI = {
    CPUFREQ.format(0): "1500000",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "82761",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "sys/class/thermal/cooling_device0/cur_state": "2",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "80008",
}

TEGRASTATS = {
    "orin nano, JetPack 6": "RAM 2147/7620MB (lfb 5x4MB) SWAP 0/3810MB (cached 0MB) CPU [7%@1510,off]"
    " GR3D_FREQ 12%@[305] cpu@46.25C soc2@-256C tj@47.5C VDD_IN 5120mW/4980mW VDD_CPU_GPU_CV 640mW/600mW"
    " VDD_SOC 1480mW/1470mW",
    "agx orin, JetPack 5": "RAM 9100/30698MB (lfb 200x4MB) CPU [1%@2201,off] EMC_FREQ 0%@2133 GR3D_FREQ 0% CPU@48C"
    " VDD_GPU_SOC 3200mW/3210mW VDD_CPU_CV 400mW/410mW VIN_SYS_5V0 2400mW/2400mW",
    "thor, JetPack 7": "RAM 3220/125772MB (lfb 1x4MB) CPU [0%@972,0%@972,off] cpu@38.5C tj@39.25C soc012@38.1C"
    " VDD_GPU -392mW/-392mW VDD_CPU_SOC_MSS 3924mW/3924mW VIN_SYS_5V0 5064mW/5064mW VIN 15004mW/15004mW",
    "nano, JetPack 4": "RAM 1600/3956MB (lfb 300x4MB) SWAP 0/1978MB (cached 0MB) CPU [12%@102] EMC_FREQ 3%@1600"
    " GR3D_FREQ 0%@76 PLL@36.5C CPU@39C PMIC@100C GPU@37C POM_5V_IN 2140/2132 POM_5V_GPU 80/78 POM_5V_CPU 270/275",
}


def plant(root, tree):
    """Write a tree below ``root``."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="ascii")
    return root
