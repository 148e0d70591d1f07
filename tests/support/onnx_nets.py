"""Small ONNX networks, drawn at random or built by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Appends nodes one after another; `shape` is (channels, height, width), or (features,) once flat.

    Opset 15, since below 14 onnx.reference normalises batches as if it were training.
    """

    def __init__(self, shape, seed=0, batch=1, opset=15):
        self.rng = np.random.default_rng(seed)
        self.given = (batch, *shape)
        self.shape = tuple(shape)
        self.nodes, self.initial, self.at, self.opset = [], [], "p", opset

    def constant(self, name, values, dtype=np.float32):
        self.initial.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def node(self, op, *constants, shape=None, name=None, **attributes):
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.at, *constants], [f"t_{name}"], name=name, **attributes))
        self.at = f"t_{name}"
        self.shape = self.shape if shape is None else tuple(shape)
        return self

    def conv(self, out, kernel, stride=(1, 1), padding=(0, 0), *, bias=True, **more):
        number = len(self.nodes)
        fan_in = self.shape[0] * kernel[0] * kernel[1]
        names = [
            self.constant(f"w{number}", self.rng.normal(0.2 / fan_in, fan_in**-0.5, (out, self.shape[0], *kernel)))
        ]
        if bias:
            names.append(self.constant(f"b{number}", self.rng.normal(0, 0.2, out)))
        after = [
            (side + 2 * pad - part) // by + 1
            for side, pad, part, by in zip(self.shape[1:], padding, kernel, stride, strict=True)
        ]
        return self.node(
            "Conv", *names, shape=(out, *after), strides=stride, pads=[*padding, *padding], kernel_shape=kernel, **more
        )

    def pool(self, op, kernel, stride):
        after = [(side - part) // by + 1 for side, part, by in zip(self.shape[1:], kernel, stride, strict=True)]
        return self.node(op, shape=(self.shape[0], *after), kernel_shape=kernel, strides=stride)

    def norm(self, *, positive=False):
        number, size = len(self.nodes), self.shape[0]
        gamma = self.rng.normal(0, 1, size)
        values = (np.abs(gamma) + 0.1 if positive else gamma, *self.rng.normal(0, 0.3, (2, size)))
        names = [self.constant(f"n{number}_{i}", value) for i, value in enumerate(values)]
        names.append(self.constant(f"n{number}_v", self.rng.uniform(0.3, 2, size)))
        return self.node("BatchNormalization", *names, epsilon=1e-3)

    def flatten(self, *, reshape=False):
        size = int(np.prod(self.shape))
        if reshape:
            return self.node("Reshape", self.constant(f"s{len(self.nodes)}", [0, -1], np.int64), shape=(size,))
        return self.node("Flatten", shape=(size,), axis=1)

    def dense(self, out, how="gemm"):
        number, size = len(self.nodes), self.shape[0]
        weights, bias = self.rng.normal(0.1 / size, size**-0.5, (out, size)), self.rng.normal(0, 0.2, out)
        if how == "matmul":
            self.node("MatMul", self.constant(f"w{number}", weights.T), shape=(out,))
            return self.node("Add", self.constant(f"b{number}", bias[None]))
        how = {"transB": 1, "alpha": 0.5, "beta": 2.0} if how == "gemm" else {}
        weights = weights if how else weights.T
        names = (self.constant(f"w{number}", weights), self.constant(f"b{number}", bias))
        return self.node("Gemm", *names, shape=(out,), **how)

    def relu(self):
        return self.node("Relu")

    def model(self):
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("p", TensorProto.FLOAT, self.given)],
            [helper.make_tensor_value_info(self.at, TensorProto.FLOAT, (self.given[0], *self.shape))], self.initial,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        return model

    def save(self, path):
        path.write_bytes(self.model().SerializeToString())
        return path


def lenet(seed=0):
    """Quartz's LeNet (ttfs.md) with random weights."""
    net = Net((1, 28, 28), seed)
    net.conv(6, (5, 5)).relu().pool("MaxPool", (2, 2), (2, 2))
    net.conv(12, (5, 5)).relu().pool("MaxPool", (2, 2), (2, 2))
    return net.conv(120, (4, 4)).relu().flatten().dense(10)


@st.composite
def nets(draw, *, averages=True):
    """Networks with every operator that is converted, in every place where it can be."""
    net = Net(
        (draw(st.integers(1, 2)), draw(st.integers(6, 12)), draw(st.integers(6, 12))),
        draw(st.integers(0, 2**32 - 1)), batch=draw(st.sampled_from([1, "N"])),
    )  # fmt: skip
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    shifted = False
    if draw(st.booleans()):
        net.norm()
        shifted = True
    for _ in range(draw(st.integers(0, 3))):
        kernel = tuple(min(side, part) for side, part in zip(net.shape[1:], draw(pair), strict=True))
        # A constant before zero padding is refused: see test_convert_refused.
        padding = (0, 0) if shifted else tuple(draw(st.integers(0, part - 1)) for part in kernel)
        net.conv(draw(st.integers(1, 4)), kernel, draw(pair), padding, bias=draw(st.booleans()))
        shifted = False
        pooled = False
        if draw(st.booleans()):
            net.norm()
        for op in draw(st.sampled_from(["", "d", "r", "ma", "am", "m", "an", "na", "mn", "a", "nm"])):
            window = tuple(min(side, part) for side, part in zip(net.shape[1:], draw(pair), strict=True))
            if op == "d":
                net.node("Dropout")
            if op in "rna" and not pooled:
                net.relu()
                pooled = True
            if op == "m" and not any(n.op_type == "AveragePool" and n.output[0] == net.at for n in net.nodes):
                net.pool("MaxPool", window, draw(pair))
            if op == "n":
                net.norm(positive=True)
                shifted = True
            if op == "a" and averages:
                net.pool("AveragePool", window, draw(pair))
                shifted = True
        if not pooled:
            net.relu()
    match draw(st.sampled_from(["flatten", "reshape", "global"] if averages else ["flatten", "reshape"])):
        case "global":
            net.node("GlobalAveragePool", shape=(net.shape[0], 1, 1)).flatten()
        case how:
            net.flatten(reshape=how == "reshape")
    if draw(st.booleans()):
        net.norm()
    for _ in range(draw(st.integers(0, 2))):
        net.dense(draw(st.integers(1, 6)), draw(st.sampled_from(["gemm", "plain", "matmul"])))
        if draw(st.booleans()):
            net.norm()
        net.relu()
        if draw(st.booleans()):
            net.norm()
    net.dense(draw(st.integers(2, 5)), draw(st.sampled_from(["gemm", "plain", "matmul"])))
    if draw(st.booleans()):
        net.norm()
    return net
