"""What the norms of an ONNX model measure, as outputs of the model or as its inputs."""

from pathlib import Path

from lit_ghibli.extras import packages

_DOMAIN = "lit_ghibli"
_MEASURE = """
Measure (features) => (mean, variance) {
    rows = Constant <value_ints: ints = [0, 0, -1]> ()
    axis = Constant <value_ints: ints = [2]> ()
    flat = Reshape (features, rows)
    mean = ReduceMean (flat, axis)
    centered = Sub (flat, mean)
    squares = Mul (centered, centered)
    variance = ReduceMean (squares, axis)
}"""
_NORMALIZE = """
Normalize <epsilon> (features, scale, bias, mean, variance) => (normalized) {
    rows = Constant <value_ints: ints = [0, 0, -1]> ()
    axis = Constant <value_ints: ints = [1]> ()
    small = Constant <value_float: float = @epsilon> ()
    flat = Reshape (features, rows)
    centered = Sub (flat, mean)
    above = Add (variance, small)
    deviation = Sqrt (above)
    unit = Div (centered, deviation)
    factor = Unsqueeze (scale, axis)
    offset = Unsqueeze (bias, axis)
    scaled = Mul (unit, factor)
    shifted = Add (scaled, offset)
    shape = Shape (features)
    normalized = Reshape (shifted, shape)
}"""


def with_statistics(path: Path, given: bool) -> bytes:
    """A model whose instance normalisations tell what they measure, or are told it.

    Group, layer and batch normalisation of one photograph are exported as instance normalisation, too.

    Args:
        path: Of the model.
        given: Whether means and biased variances, ``(1, C, 1)``, of all norms in turn are further inputs; else they
            are further outputs.

    Returns:
        The model, which ONNX Runtime takes as it takes a file.
    """
    onnx, parser = packages("ONNX models in tiles", "export", "onnx", "onnx.parser")
    model = onnx.load(path)
    graph, make = model.graph, onnx.helper.make_node
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type != "InstanceNormalization":
            graph.node.append(node)
            continue
        at = len(graph.input) - 1 if given else len(graph.output) - 1
        names = [f"mean_{at // 2}", f"variance_{at // 2}"]
        if given:
            epsilon = {each.name: each.f for each in node.attribute}.get("epsilon", 1e-5)
            new = make("Normalize", [*node.input, *names], node.output, domain=_DOMAIN, epsilon=epsilon)
            graph.node.append(new)
        else:
            graph.node.extend([node, make("Measure", node.input[:1], names, domain=_DOMAIN)])
        (graph.input if given else graph.output).extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, 1]) for name in names
        )
    opset = next(each.version for each in model.opset_import if not each.domain)
    head = f'<domain: "{_DOMAIN}", opset_import: ["": {opset}]>'
    model.functions.append(parser.parse_function(head + (_NORMALIZE if given else _MEASURE)))
    model.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
    return model.SerializeToString()
