"""How much code only a GPU runs: less than 300 lines.

A line counts when no run on the CPU gets there: it stands in the body of a function that is for a card alone. What
every machine runs at import (imports, constants, `def` and `class`), docstrings, comments and blank lines don't count;
a statement that is wrapped counts with each of its lines.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Whole modules, or what of a module is for a card alone; "*" is everything.
GPU_ONLY = {
    "core/oneglance_core/cuda_driver.py": "*",
    "core/oneglance_core/sessions/onnx_runtime.py": (
        "load_cuda",
        "share_cuda_memory",
        "giving_back",
        "missing_for_cuda",
        "OnnxSession.placement",
    ),
    "index/oneglance_index/search/cuda.py": "*",
    "index/oneglance_index/search/gpu_scan.py": "*",
    "index/oneglance_index/search/bounds.py": ("as_halves", "on_card"),
    "index/oneglance_index/search/faiss_calls.py": ("GpuFaiss",),
    "index/oneglance_index/opened.py": ("OpenedGalleries._check_card",),
    "server/oneglance_server/engines/cuda.py": "*",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """All functions and methods, by qualified name; nested ones belong to the outer one."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, Function):
                    yield f"{node.name}.{method.name}", method


def lines_of(function: Function, code: set[int]) -> set[int]:
    """The numbers of the lines of its body, without a docstring; `code`: those that have any code."""
    body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return code & {line for node in body for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that are more than blank or a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    return {line for token in tokens if token.type not in nothing for line in range(token.start[0], token.end[0] + 1)}


def test_less_than_300_lines_are_for_a_card_alone() -> None:
    counted = {}
    for path, chosen in GPU_ONLY.items():
        source = (ROOT / path).read_text()
        found, code = dict(functions(ast.parse(source))), code_lines(source)
        names = {
            name for name in found if chosen == "*" or name in chosen or any(name.startswith(f"{c}.") for c in chosen)
        }
        assert names, path
        assert chosen == "*" or all(any(name.startswith(one) for name in names) for one in chosen)
        counted[path] = len(set().union(*(lines_of(found[name], code) for name in names)))
    assert sum(counted.values()) < 300, counted
