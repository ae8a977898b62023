"""The canonical form depends on the graph and on nothing else."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.rewrite import split_prelu


def _model(nodes, initializers=(), outputs=("y",), inputs=("x",)):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in (*inputs, *outputs)]
    graph = helper.make_graph(nodes, "g", value[: len(inputs)], value[len(inputs) :], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _ones(name):
    return helper.make_tensor(name, TensorProto.FLOAT, [4], [1, 2, 3, 4])


def _run(model, x):
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def _messy():
    """y = relu(x + c) * 2 + (x + c), with Identity, Constant, a dead node and an odd order of constants."""
    return _model(
        [
            helper.make_node("Constant", [], ["two"], value_float=2.0),
            helper.make_node("Identity", ["c"], ["c2"]),
            helper.make_node("Add", ["x", "c2"], ["s"]),
            helper.make_node("Exp", ["s"], ["dead"]),
            helper.make_node("Identity", ["s"], ["s2"]),
            helper.make_node("Relu", ["s2"], ["r"]),
            helper.make_node("Mul", ["r", "two"], ["m"]),
            helper.make_node("Add", ["m", "s"], ["out"]),
            helper.make_node("Identity", ["out"], ["y"]),
        ],
        [_ones("unused"), _ones("c")],
    )


def test_names_and_order():
    result = canonicalise(_messy())
    assert [(n.name, list(n.input), list(n.output)) for n in result.graph.node] == [
        ("Add_0", ["x", "Add_0_constant1"], ["Add_0_out"]),
        ("Relu_0", ["Add_0_out"], ["Relu_0_out"]),
        ("Mul_0", ["Relu_0_out", "Mul_0_constant1"], ["Mul_0_out"]),
        ("Add_1", ["Mul_0_out", "Add_0_out"], ["y"]),
    ]
    assert [t.name for t in result.graph.initializer] == ["Add_0_constant1", "Mul_0_constant1"]


def test_it_computes_the_same_and_is_idempotent():
    model = _messy()
    x = np.linspace(-9, 5, 8, dtype=np.float32).reshape(2, 4)
    result = canonicalise(model)
    np.testing.assert_array_equal(_run(result, x), _run(model, x))
    assert canonicalise(result) == result
    onnx.checker.check_model(result, full_check=True)


def test_the_order_of_nodes_does_not_matter_nor_what_they_are_called():
    one, other = _messy(), _messy()
    nodes = list(other.graph.node)
    del other.graph.node[:]
    other.graph.node.extend([nodes[i] for i in (1, 0, 2, 4, 5, 3, 6, 7, 8)])
    for node in other.graph.node:
        node.name = "strange/" + node.output[0]
    one, other = canonicalise(one), canonicalise(other)
    assert [node.name for node in other.graph.node] == ["strange/s", "strange/r", "strange/m", "strange/out"]
    for node, named in zip(one.graph.node, other.graph.node, strict=True):
        named.name = node.name
    assert one == other


def test_a_name_that_is_taken_is_not_given_twice():
    model = _messy()
    for node in model.graph.node:
        node.name = "Add_1" if node.op_type in ("Mul", "Relu") else ""
    result = canonicalise(model)
    assert [node.name for node in result.graph.node] == ["Add_0", "Add_1", "Mul_0", "Add_2"]
    assert [node.output[0] for node in result.graph.node] == ["Add_0_out", "Relu_0_out", "Mul_0_out", "y"]
    assert canonicalise(result) == result


def test_the_input_is_left_alone():
    model = _messy()
    before = model.SerializeToString()
    canonicalise(model)
    assert model.SerializeToString() == before


def test_roles_of_weights_are_named():
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.eye(4, dtype=np.float32).ravel())
    result = canonicalise(_model([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], [_ones("b"), weight]))
    assert [t.name for t in result.graph.initializer] == ["Gemm_0_weight", "Gemm_0_bias"]


def test_a_shared_constant_is_kept_once():
    nodes = [helper.make_node("Add", ["x", "c"], ["s"]), helper.make_node("Mul", ["s", "c"], ["y"])]
    result = canonicalise(_model(nodes, [_ones("c")]))
    assert [t.name for t in result.graph.initializer] == ["Add_0_constant1"]
    assert list(result.graph.node[1].input) == ["Add_0_out", "Add_0_constant1"]


def test_constants_listed_as_inputs_are_constants():
    nodes = [helper.make_node("Add", ["x", "c"], ["y"])]
    model = _model(nodes, [_ones("c")])
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [4]))
    result = canonicalise(model)
    assert [value.name for value in result.graph.input] == ["x"]
    assert [t.name for t in result.graph.initializer] == ["Add_0_constant1"]


def test_control_flow_and_functions_are_refused():
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    )
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
    model = _model([helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)], [flag])
    with pytest.raises(EdgeferError, match="control flow"):
        canonicalise(model)
    model = _messy()
    model.functions.add(name="Helper")
    with pytest.raises(EdgeferError, match=r"local functions \(Helper") as error:
        canonicalise(model)
    assert "inline" in error.value.hint


def test_a_cycle_is_refused():
    nodes = [helper.make_node("Add", ["x", "b"], ["y"]), helper.make_node("Relu", ["y"], ["b"])]
    with pytest.raises(EdgeferError, match="cycle"):
        canonicalise(_model(nodes))


def _prelu():
    """A slope as PyTorch's exporter leaves it where it folds nothing."""
    return _model(
        [
            helper.make_node("Unsqueeze", ["slope", "axes"], ["shaped"]),
            helper.make_node("Neg", ["shaped"], ["turned"]),
            helper.make_node("PRelu", ["x", "turned"], ["y"]),
        ],
        [_ones("slope"), helper.make_tensor("axes", TensorProto.INT64, [1], [0])],
    )


def test_nodes_over_constants_become_constants():
    x = np.linspace(-9, 5, 8, dtype=np.float32).reshape(2, 4)
    result = canonicalise(_prelu())
    assert [(node.name, list(node.input)) for node in result.graph.node] == [("PRelu_0", ["x", "PRelu_0_slope"])]
    assert [list(tensor.dims) for tensor in result.graph.initializer] == [[1, 4]]
    np.testing.assert_array_equal(_run(result, x), _run(_prelu(), x))
    assert canonicalise(result) == result
    assert split_prelu(result) == 1


def test_int8_weights_and_what_would_grow_too_large_stay_nodes():
    kept = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["d"]),
        helper.make_node("Expand", ["one", "shape"], ["e"]),
        helper.make_node("Add", ["x", "d"], ["s"]),
        helper.make_node("Gather", ["e", "zero"], ["g"]),
        helper.make_node("Add", ["s", "g"], ["y"]),
    ]
    constants = [
        helper.make_tensor("q", TensorProto.INT8, [4], [1, 2, 3, 4]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1]),
        helper.make_tensor("shape", TensorProto.INT64, [3], [1 << 20, 1 << 20, 4]),
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
    ]
    types = [node.op_type for node in canonicalise(_model(kept, constants)).graph.node]
    assert sorted(types) == ["Add", "Add", "DequantizeLinear", "Expand", "Gather"]


def test_a_node_over_constants_that_cannot_be_computed_is_named():
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    three = helper.make_tensor("b", TensorProto.FLOAT, [3], [1, 2, 3])
    with pytest.raises(EdgeferError, match="Add '' over constants cannot be computed") as caught:
        canonicalise(_model(nodes, [_ones("a"), three]))
    assert "damaged" in caught.value.hint
