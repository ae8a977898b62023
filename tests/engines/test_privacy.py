"""Nothing is reported to anybody: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md."""

import os
import subprocess
import sys

import pytest
from onnx import TensorProto, helper


def identity():
    tensor = {"elem_type": TensorProto.FLOAT, "shape": [1]}
    ends = [helper.make_tensor_value_info(name, **tensor) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_leaves_no_identifier_and_no_events_behind(tmp_path, runtime):
    pytest.importorskip(runtime)
    ours = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    kept = {name: text for name, text in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    (tmp_path / "model.onnx").write_bytes(identity())
    script = (
        "from edgefer.engines.opening import open_session; import sys; "
        "open_session(sys.argv[1], sys.argv[2], 1, 'fp32').close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, runtime, str(tmp_path / "model.onnx")],
        env={**kept, **ours},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
