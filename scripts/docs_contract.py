"""The page about the contract, from the .proto files and their comments."""

import html
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from scripts.openapi import PACKAGE, Comments

PROTO = Path(__file__).resolve().parents[1] / "proto"
_INTRODUCTION = f"""\
# The contract

`{PACKAGE}`, made from the .proto files and their comments: the services with their calls first, then the
messages. The same over HTTP is described by `GET /openapi.json` of a server, see [clients](clients.md). What refusals
say stands in [errors](errors.md).
"""


def contract_page() -> str:
    files = [file for file in descriptors().file if file.package == PACKAGE]
    parts = [_INTRODUCTION]
    for file in files:
        comments = Comments(file)
        for i, service in enumerate(file.service):
            parts += service_lines(service, comments, (6, i))
    parts.append("## Messages\n")
    blocks: dict[str, list[str]] = {}
    for file in files:
        add_blocks(blocks, file)
    for name in sorted(blocks):
        parts += blocks[name]
    return "\n".join(parts)


def descriptors() -> FileDescriptorSet:
    """With the comments, which the generated code lacks."""
    buf = Path(sys.executable).with_name("buf")
    return FileDescriptorSet.FromString(
        subprocess.run([buf, "build", "--output", "-"], cwd=PROTO, check=True, capture_output=True).stdout
    )


def service_lines(service: ServiceDescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield f"## {service.name}\n\n{told(comments, *path)}\n"
    for j, method in enumerate(service.method):
        asked, answered = linked(method.input_type), linked(method.output_type)
        yield f"### {method.name} {{ #{service.name}.{method.name} }}\n"
        yield f"{'stream of ' * method.client_streaming}{asked} → {'stream of ' * method.server_streaming}{answered}\n"
        yield f"{told(comments, *path, 2, j)}\n"


def add_blocks(blocks: dict[str, list[str]], file: FileDescriptorProto) -> None:
    comments = Comments(file)
    for i, message in enumerate(file.message_type):
        add_message(blocks, message.name, message, comments, (4, i))
    for i, enum in enumerate(file.enum_type):
        blocks[enum.name] = enum_lines(enum.name, enum, comments, (5, i))


def add_message(
    blocks: dict[str, list[str]], name: str, message: DescriptorProto, comments: Comments, path: tuple[int, ...]
) -> None:
    """With what is declared in it."""
    maps = {f".{PACKAGE}.{name}.{one.name}": one for one in message.nested_type if one.options.map_entry}
    for i, inner in enumerate(message.nested_type):
        if not inner.options.map_entry:
            add_message(blocks, f"{name}.{inner.name}", inner, comments, (*path, 3, i))
    for i, enum in enumerate(message.enum_type):
        blocks[f"{name}.{enum.name}"] = enum_lines(f"{name}.{enum.name}", enum, comments, (*path, 4, i))
    lines = blocks[name] = [*heading(name), f"{told(comments, *path)}\n"]
    if message.field:
        lines.append("| field | type | |\n|---|---|---|")
    for i, field in enumerate(message.field):
        one_of = field.HasField("oneof_index") and not field.proto3_optional
        note = f"*one of `{message.oneof_decl[field.oneof_index].name}`* " if one_of else ""
        lines.append(f"| `{field.name}` | {type_of(field, maps)} | {note}{cell(told(comments, *path, 2, i))} |")
    lines.append("")


def enum_lines(name: str, enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> list[str]:
    rows = [f"| `{value.name}` | {cell(told(comments, *path, 2, i))} |" for i, value in enumerate(enum.value)]
    return [*heading(name), f"{told(comments, *path)}\n", "| value | |\n|---|---|", *rows, ""]


def heading(name: str) -> Iterator[str]:
    yield f"### {name} {{ #{name} }}\n"


def type_of(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    if entry := maps.get(field.type_name):
        return f"map of {type_of(entry.field[0], {})} to {type_of(entry.field[1], {})}"
    name = linked(field.type_name) or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    return f"{name}, optional" if field.proto3_optional else name


def linked(type_name: str) -> str:
    name = type_name.removeprefix(f".{PACKAGE}.")
    return name.lstrip(".") if name == type_name else f"[{name}](#{name})"


def told(comments: Comments, *path: int) -> str:
    """A comment as paragraphs of the page; pages that it names become links, and what it indents is shown as it is."""
    paragraphs = textwrap.dedent(comments.text(*path)).strip("\n").split("\n\n")
    return "\n\n".join(
        textwrap.indent(textwrap.dedent(part), "    ") if part.startswith("  ") else escaped(" ".join(part.split()))
        for part in paragraphs
    )


def escaped(text: str) -> str:
    text = re.sub(r"([*_\[\]|])", r"\\\1", html.escape(text, quote=False))
    return re.sub(r"\bdocs/([a-z-]+)\.md\b", r"[\1](\1.md)", text)


def cell(text: str) -> str:
    return " ".join(text.split())
