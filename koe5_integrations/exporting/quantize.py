"""Eight-bit weights: the graph's matrix products rewritten for the runtime that is to run them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from koe5_integrations.exports import Engine

__all__ = ["quantize"]

# Processors without VNNI add two products of uint8 and int8 in 16 bits, which overflows from
# 2 * 255 * 65 on: onnxruntime's weights keep to 7 bits, so that every processor computes the same.
# OpenVINO does not run eight-bit products there, but in fp32.
_LARGEST: dict[Engine, int] = {"onnx": 63, "openvino": 127}

_SLICE = 8192


def quantize(model: ir.Model, engine: Engine) -> None:
    """Rewrite the encoder's matrix products and its token table in place.

    Weights get a scale for each output channel, rows of the token table one for each token. For
    onnxruntime the activations get one scale per tensor, at run time (``DynamicQuantizeLinear``);
    OpenVINO scales them by token, as it likes, so that its graph only stores the weights in eight
    bits. Products on sentence embeddings (Dense modules) cost nothing and stay as they are.
    """
    graph = model.graph
    activations: dict[ir.Value, list[ir.Value]] = {}
    for node in list(_weight_products(graph)):
        values, scales = _by_column(_array(node.inputs[1]), _LARGEST[engine])
        name = node.outputs[0].name
        weight = _initializer(graph, f"{name}_weight", values)
        scale = _initializer(graph, f"{name}_scale", scales)
        if engine == "openvino":
            restored = ir.node("DequantizeLinear", [weight, scale], attributes={"axis": 1})
            product = ir.node("MatMul", [node.inputs[0], restored.outputs[0]])
            graph.insert_before(node, [restored, product])
            _take_over(graph, node, product)
            continue
        x = node.inputs[0]
        assert x is not None
        if x not in activations:
            dynamic = ir.node("DynamicQuantizeLinear", [x], num_outputs=3)
            graph.insert_before(node, dynamic)
            activations[x] = list(dynamic.outputs)
        quantized, x_scale, x_zero = activations[x]
        product = ir.node("MatMulInteger", [quantized, weight, x_zero])
        as_float = ir.node("Cast", product.outputs, attributes={"to": ir.DataType.FLOAT})
        both = ir.node("Mul", [x_scale, scale])
        scaled = ir.node("Mul", [as_float.outputs[0], both.outputs[0]])
        graph.insert_before(node, [product, as_float, both, scaled])
        _take_over(graph, node, scaled)
    _quantize_token_table(graph)


def _weight_products(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in graph:
        if node.op_type == "MatMul" and len(node.inputs) == 2:
            x, weight = node.inputs
            of_tokens = x is not None and x.shape is not None and len(x.shape) == 3
            if of_tokens and weight is not None and weight.name in graph.initializers:
                yield node


def _quantize_token_table(graph: ir.Graph) -> None:
    """Store the table that ``input_ids`` are looked up in as int8, with a scale for each row."""
    ids = graph.inputs[0]
    for node in list(graph):
        if node.op_type == "Gather" and node.inputs[1] is ids and node.inputs[0] is not None:
            table = _array(node.inputs[0])
            # In slices, for the table is half of a multilingual model.
            starts = range(0, len(table), _SLICE)
            parts = [_by_column(table[start : start + _SLICE].T, 127) for start in starts]
            name = node.inputs[0].name
            values = np.concatenate([values.T for values, _ in parts])
            scales = np.concatenate([scales[:, None] for _, scales in parts])
            stored = _initializer(graph, f"{name}_int8", values)
            row_scales = _initializer(graph, f"{name}_scale", scales)
            rows = ir.node("Gather", [stored, ids])
            row_scale = ir.node("Gather", [row_scales, ids])
            as_float = ir.node("Cast", rows.outputs, attributes={"to": ir.DataType.FLOAT})
            scaled = ir.node("Mul", [as_float.outputs[0], row_scale.outputs[0]])
            graph.insert_before(node, [rows, row_scale, as_float, scaled])
            _take_over(graph, node, scaled)


def _by_column(
    weights: npt.NDArray[np.float32], largest: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return weights as integers within ``largest``, and the scale of each column."""
    scales = np.abs(weights).max(axis=0) / np.float32(largest)
    scales[scales == 0] = 1
    return np.rint(weights / scales).astype(np.int8), scales


def _array(value: ir.Value | None) -> npt.NDArray[np.float32]:
    assert value is not None
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy(), dtype=np.float32)


def _initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    value.const_value = tensor
    graph.register_initializer(value)
    return value


def _take_over(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Let ``new`` give what ``old`` gave, and drop the weights only ``old`` used."""
    before, after = old.outputs[0], new.outputs[0]
    after.name, after.type, after.shape = before.name, before.type, before.shape
    ir.convenience.replace_all_uses_with(before, after)
    weights = [value for value in old.inputs if value is not None]
    graph.remove(old, safe=True)
    for value in weights:
        if value.name is not None and value.name in graph.initializers and not value.uses():
            del graph.initializers[value.name]
