#!/bin/sh
# Builds, checks and benches the network of this bundle on the machine that it is run on.
#
#   sh run.sh [--target TARGETS] [--with edgefer|trtexec|both] [--seconds N] [-o FOLDER]
#
# PYTHON is the interpreter that has edgefer (default: python3); TRTEXEC is NVIDIA's builder (default: looked for).
# Exit status: 0 built, checked and benched; 2 something is missing or does not answer as it should.
set -eu

# settings: begin
# settings: end

target=tensorrt
with=edgefer
seconds=10
output=

fail() {
    echo "error: $1" >&2
    [ -z "${2-}" ] || echo "hint: $2" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --target | --with | --seconds | -o) [ $# -gt 1 ] || fail "$1 needs a value" ;;
    esac
    case $1 in
        --target) target=$2; shift 2 ;;
        --with) with=$2; shift 2 ;;
        --seconds) seconds=$2; shift 2 ;;
        -o) output=$2; shift 2 ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "there is no option $1" "sh run.sh --help" ;;
    esac
done
case " tensorrt $CPU_RUNTIMES " in
    *" $target "*) ;;
    *) fail "there is no target $target" "one of: tensorrt $CPU_RUNTIMES" ;;
esac
case $with in
    edgefer) ;;
    both) [ "$target" = tensorrt ] || fail "trtexec builds for TensorRT only, not for $target" ;;
    trtexec) [ "$target" = tensorrt ] || fail "trtexec builds for TensorRT only, not for $target" ;;
    *) fail "--with is edgefer, trtexec or both, not $with" ;;
esac

bundle=$(cd "$(dirname "$0")" && pwd)
[ -n "$output" ] || output=$bundle/results
case $output in
    /*) ;;
    *) output=$PWD/$output ;;
esac
: "${PYTHON:=python3}" "${TRTEXEC:=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}"
case $PYTHON in # a path from here, not from the bundle
    /*) ;;
    */*) PYTHON=$PWD/$PYTHON ;;
esac
case $TRTEXEC in
    /*) ;;
    */*) TRTEXEC=$PWD/$TRTEXEC ;;
esac
cd "$bundle"

make_output() { # once it is known that nothing is missing
    mkdir -p "$output" || fail "$output cannot be made" "-o FOLDER"
}

with_edgefer() {
    "$PYTHON" -c 'import edgefer' 2>/dev/null || fail "$PYTHON has no edgefer" \
        "PYTHON=edgefer-env/bin/python sh run.sh, or --with trtexec: README.md"
    if [ "$target" = tensorrt ]; then
        major=$("$PYTHON" -c 'import tensorrt; print(tensorrt.__version__.split(".")[0])' 2>/dev/null) ||
            fail "$PYTHON cannot import tensorrt" "\`$PYTHON -m edgefer doctor\` says what to install"
        file=$FLAGS_FILE
        [ "$major" -lt "$TYPES_FROM" ] || file=$TYPES_FILE
        make_output
        engine=$output/face.engine
        echo "building: TensorRT times its kernels, which takes minutes the first time" >&2
        # shellcheck disable=SC2086  # several options
        "$PYTHON" -m edgefer build-engine "$file" $TENSORRT_PRECISION --target tensorrt -o "$engine"
    else
        make_output
        engine=$output/face.onnx
        # shellcheck disable=SC2086
        "$PYTHON" -m edgefer build-engine model.onnx $CPU_PRECISION --runtime "$target" -o "$engine"
    fi
    "$PYTHON" -m edgefer deploy check . "$engine"
    "$PYTHON" -m edgefer bench "$engine" --data faces.npz --baseline baseline.npz --seconds "$seconds" \
        --markdown "$output/report.md" --json "$output/report.json"
    echo "the host, $HOST"
    echo "results: $engine, its manifest, report.json and report.md in $output"
}

with_trtexec() {
    [ -x "$TRTEXEC" ] || fail "there is no trtexec at $TRTEXEC" "sudo apt install libnvinfer-bin, or TRTEXEC=…"
    version=$("$TRTEXEC" --help 2>&1 | sed -n 's/.*\[TensorRT v\([0-9]*\)\].*/\1/p' | head -n 1)
    [ -n "$version" ] || fail "$TRTEXEC does not say its version"
    trtexec_settings "$version"
    make_output
    engine=$output/face.engine
    # shellcheck disable=SC2086
    "$TRTEXEC" --onnx="$file" --saveEngine="$engine" $flags >"$output/build.log" 2>&1 ||
        fail "trtexec could not build the engine" "$output/build.log has the reason"
    "$TRTEXEC" --loadEngine="$engine" --shapes="faces:$GOLDEN_SHAPE" --loadInputs=faces:golden.faces.bin \
        --warmUp=0 --duration=0 --iterations=1 --exportOutput="$output/golden.out.json" >"$output/check.log" 2>&1 ||
        fail "trtexec could not run the engine" "$output/check.log has the reason"
    "$PYTHON" - "$output/golden.out.json" "$TOLERANCE" <<'PYTHON' || fail "the engine is not to be used"
import json, sys
wanted = [value for row in json.load(open("golden.json"))["logits"] for value in row]
found = [value for tensor in json.load(open(sys.argv[1])) if tensor["name"] == "logits" for value in tensor["values"]]
allowed = float(sys.argv[2])
if len(found) != len(wanted):
    sys.exit("error: the engine answered with %d logits, %d were due" % (len(found), len(wanted)))
apart = max(abs(a - b) for a, b in zip(found, wanted)) / max(map(abs, wanted))
print("golden faces: logits differ from the float model's by %.3g of their scale, %.3g is allowed" % (apart, allowed))
sys.exit(0 if apart <= allowed else "error: the engine does not answer as the network does")
PYTHON
    "$TRTEXEC" --loadEngine="$engine" --shapes="faces:1x$FACE" --duration="$seconds" \
        --exportTimes="$output/times.json" >"$output/bench.log" 2>&1 || fail "trtexec could not time the engine"
    sed -n '/Performance summary/,$p' "$output/bench.log"
    echo "results: $engine, times.json and trtexec's logs in $output; it has no manifest, so edgefer does not serve it"
}

# First contact with a device: one after the other, whatever becomes of either, and everything but engines in one file.
with_both() {
    make_output
    export PYTHON TRTEXEC
    {
        cat /etc/nv_tegra_release
        nvpmodel -q
        jetson_clocks --show
        dpkg -l | grep -i -E 'tensorrt|nvinfer|cuda-cudart'
        "$PYTHON" -m edgefer doctor
    } >"$output/device.txt" 2>&1 || true
    status=0
    for way in edgefer trtexec; do
        echo "with $way: $output/$way.log" >&2
        folder=$output
        [ $way = edgefer ] || folder=$output/trtexec
        sh ./run.sh --with $way --seconds "$seconds" -o "$folder" >"$output/$way.log" 2>&1 || status=2
        tail -n 25 "$output/$way.log"
    done
    tar -czf "$output.tar.gz" --exclude='*.engine' --exclude='*.unchecked' -C "$output" .
    echo "send back: $output.tar.gz, which has no engine and no face in it"
    exit "$status"
}

"with_$with"
