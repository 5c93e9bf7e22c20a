"""The page about the Python client, from the signatures and docstrings of what `oneglance` exports."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import oneglance

_ABOUT_ASYNC = """\
## AsyncClient

The same methods as coroutines; what gives an iterator in `Client` is an asynchronous one. Use it in one event loop.
"""


def python_page() -> str:
    names = [name for name in oneglance.__all__ if not name.startswith("_") and "Client" not in name[-6:]]
    things = {name: getattr(oneglance, name) for name in names}
    errors = [name for name, thing in things.items() if inspect.isclass(thing)]
    parts = ["# The Python client\n", text_of(oneglance).partition("\n\n")[2], *client_lines(), _ABOUT_ASYNC]
    answers = [name for name in things if things[name].__module__ in ("oneglance.answers", "oneglance.client.frames")]
    for heading, members in (
        ("Building requests", [name for name in things if name not in errors + answers]),
        ("Answers", answers),
    ):
        parts.append(f"## {heading}\n")
        for name in members:
            parts += member_lines(name, things[name])
    parts += ["## Errors\n", text_of(inspect.getmodule(oneglance.OneglanceError))]
    parts += ["### OneglanceError\n", text_of(oneglance.OneglanceError)]
    return "\n".join(parts)


def client_lines() -> Iterator[str]:
    """The class, and its methods under the headings that its source has as comments."""
    yield "## Client\n"
    yield f"```python\n{signature(oneglance.Client.__init__, 'Client')}\n```\n"
    yield text_of(oneglance.Client)
    source = inspect.getsource(oneglance.Client)
    for line in source.splitlines():
        if section := re.match(r"    # (.+)$", line):
            yield f"## {section[1]}\n"
        elif method := re.match(r"    def ([a-z]\w*)\(", line):
            yield from member_lines(method[1], inspect.getattr_static(oneglance.Client, method[1]))


def member_lines(name: str, member: Any) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"```python\n{signature(member, name)}\n```\n"
    yield text_of(member)


def signature(function: Any, name: str) -> str:
    """As it is written in the source, without self."""
    lines = textwrap.dedent(inspect.getsource(inspect.unwrap(function))).splitlines()
    (parsed,) = ast.parse("\n".join(lines)).body
    assert isinstance(parsed, ast.FunctionDef)
    head = "\n".join(lines[parsed.lineno - 1 : parsed.body[0].lineno - 1]).removesuffix(":").removesuffix(" -> None")
    return re.sub(r"^def \w+\((?:(\s*)self(?:,\s*)?)?", lambda begin: f"{name}({begin[1] or ''}", head)


def text_of(thing: Any) -> str:
    """Its docstring in Markdown: literals, blocks of code, and a list where lines explain names."""
    text = re.sub(r":\w+:`(?:[\w.]+\.)?(\w+)`", r"`\1`", inspect.getdoc(thing) or "").replace("``", "`")
    text = re.sub(r"\bdocs/([a-z-]+)\.md\b", r"[\1](\1.md)", text)
    return "\n\n".join(block_of(block) for block in re.split(r"\n\n(?! )", text)) + "\n"


def block_of(block: str) -> str:
    before, code, literal = block.partition("::\n\n")
    if code:
        return f"{before}{':' * bool(before)}\n\n```python\n{textwrap.dedent(literal)}\n```".lstrip()
    if section := re.match(r"(Args|Attributes):\n", block):
        block = textwrap.dedent(block[section.end() :])
    return re.sub(r"(?m)\n?^([a-z]\w*(?:, \w+)*): ", r"\n- `\1`: ", block).lstrip("\n")
