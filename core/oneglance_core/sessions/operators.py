"""Which operators a graph may have: those that only compute. Looked at before any engine sees the graph.

The file is read as protobuf's wire format, since the package onnx isn't part of a server. Only what is needed is looked
at, weights are skipped.
"""

from collections.abc import Iterator

from oneglance_core.sessions.session import GraphError

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# Of the domain com.microsoft, whose other operators read files, run code of others, or belong to one accelerator.
_MICROSOFT = """
    Attention BiasAdd BiasGelu BiasSoftmax BiasSplitGelu CDist ConvTransposeWithDynamicPads CropAndResize
    DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul EmbedLayerNormalization ExpandDims FastGelu FusedConv
    FusedGemm FusedMatMul FusedMatMulActivation Gelu GroupNorm Inverse Irfft LayerNormalization MatMulInteger16
    MatMulIntegerToFloat MatMulNBits MaxpoolWithMask MultiHeadAttention MurmurHash3 NhwcConv NhwcFusedConv NhwcMaxPool
    Pad QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere
    QOrderedMatMul QuantizeLinear QuickGelu Range Rfft RotaryEmbedding SimplifiedLayerNormalization
    SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization TransposeMatMul Trilu Unique
"""
MICROSOFT = frozenset(_MICROSOFT.split())
_MOST_DEPTH = 16  # of graphs within operators
_MOST_FIELDS = 4_000_000  # a few seconds
_NOT_ONNX = "not an ONNX graph, or cut off"

# Numbers of fields, as onnx.proto has them.
_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE = 1
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10
_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11

Operator = tuple[str, str]


def check_operators(graph: bytes) -> None:
    """Raises GraphError for an operator that isn't allowed, which it names, and for what isn't a graph."""
    reader = _Reader()
    own: set[Operator] = set()
    used: set[Operator] = set()
    for number, value in reader.fields(memoryview(graph)):
        if number == _MODEL_GRAPH:
            reader.operators(value, _GRAPH_NODE, used, 0)
        elif number == _MODEL_FUNCTION:
            texts = dict(reader.texts(value, (_FUNCTION_NAME, _FUNCTION_DOMAIN)))
            own.add((texts.get(_FUNCTION_DOMAIN, ""), texts.get(_FUNCTION_NAME, "")))
            reader.operators(value, _FUNCTION_NODE, used, 0)
    strange = sorted(
        name if not domain else f"{domain}.{name}" for domain, name in used - own if not _is_allowed(domain, name)
    )
    if strange:
        raise GraphError(f"the graph has operators that are not allowed: {', '.join(strange[:5])}"[:400])


def _is_allowed(domain: str, name: str) -> bool:
    """Whether an operator of a standard domain is one, the engine says."""
    return domain in STANDARD or (domain == "com.microsoft" and name in MICROSOFT)


class _Reader:
    """Reads messages, up to so many fields in all. Raises GraphError."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def operators(self, content: memoryview, node: int, found: set[Operator], depth: int) -> None:
        """Adds those of a graph or a function, whose nodes are the fields of this number, and of the graphs in them."""
        if depth > _MOST_DEPTH:
            raise GraphError(f"the graph has graphs within graphs, more than {_MOST_DEPTH} deep")
        for number, value in self.fields(content):
            if number == node:
                texts = {}
                for part, inner in self.fields(value):
                    if part in (_NODE_TYPE, _NODE_DOMAIN):
                        texts[part] = _text(inner)
                    elif part == _NODE_ATTRIBUTE:
                        for kind, body in self.fields(inner):
                            if kind in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                                self.operators(body, _GRAPH_NODE, found, depth + 1)
                found.add((texts.get(_NODE_DOMAIN, ""), texts.get(_NODE_TYPE, "")))

    def texts(self, content: memoryview, wanted: tuple[int, ...]) -> Iterator[tuple[int, str]]:
        for number, value in self.fields(content):
            if number in wanted:
                yield number, _text(value)

    def fields(self, content: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Those that have a length, by number; numbers are skipped."""
        at, end = 0, len(content)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise GraphError(f"the graph has more than {_MOST_FIELDS:,} parts")
            tag, at = _number(content, at)
            kind = tag & 7
            if kind == 0:
                _, at = _number(content, at)
            elif kind == 1:
                at += 8
            elif kind == 5:
                at += 4
            elif kind == 2:
                length, at = _number(content, at)
                if length > end - at:
                    raise GraphError(_NOT_ONNX)
                yield tag >> 3, content[at : at + length]
                at += length
            else:
                raise GraphError(_NOT_ONNX)
            if at > end:
                raise GraphError(_NOT_ONNX)


def _number(content: memoryview, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise GraphError(_NOT_ONNX)
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _text(content: memoryview) -> str:
    return bytes(content[:256]).decode("utf-8", "replace")
