"""What the server answers, as dataclasses, from the contract and its comments: python -m scripts.answers [PROTO_DIR].

scripts/generate runs it with the descriptors, which protoc writes to .venv-gen/contract.binpb.
"""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
)

from scripts.openapi import CONTRACT, PACKAGE, Comments

HOME = Path("oneglance/answers.py")
Field = FieldDescriptorProto
_TIMESTAMP = ".google.protobuf.Timestamp"
_FLOATS = {Field.TYPE_FLOAT: "np.float32", Field.TYPE_DOUBLE: "np.float64"}
_SCALARS = {
    Field.TYPE_STRING: ("str", '""'),
    Field.TYPE_BYTES: ("bytes", 'b""'),
    Field.TYPE_BOOL: ("bool", "False"),
    Field.TYPE_FLOAT: ("float", "0.0"),
    Field.TYPE_DOUBLE: ("float", "0.0"),
}
_HEAD = '''\
# Generated from the contract by scripts/answers.py. Do not edit.
"""What the server answers, as frozen dataclasses: ``as_dataclass`` makes them of what the clients return.

The fields are those of the contract. Choices are words, as the clients' arguments are, "" where nothing is said; times
are datetimes with a time zone; lists are tuples, lists of numbers numpy arrays; what is absent is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from oneglance.client.answering import Answer, dataclass_of
'''
_TAIL = '''\
@overload
def as_dataclass(answer: Message) -> Answer: ...
def as_dataclass(answer: Message) -> Answer:
    """What a method of a client returned, or a part of it, as a frozen dataclass of ``oneglance.answers``, which prints
    readably. Raises TypeError for what no method returns."""
    return dataclass_of(answer, globals())
'''


class Contract:
    def __init__(self, files: FileDescriptorSet) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self.modules: dict[str, str] = {}
        self.texts: dict[tuple[str, str], str] = {}
        answers: list[str] = []
        for file in files.file:
            if file.package != PACKAGE:
                continue
            comments = Comments(file)
            for i, message in enumerate(file.message_type):
                self.messages[message.name] = message
                self.modules[message.name] = file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
                self.texts[message.name, ""] = comments.text(4, i)
                for j, each in enumerate(message.field):
                    self.texts[message.name, each.name] = comments.text(4, i, 2, j)
            self.enums |= {enum.name: enum for enum in file.enum_type}
            answers += [name_of(method.output_type) for service in file.service for method in service.method]
        self.used: dict[str, None] = {}
        for name in answers:
            self._use(name)

    def _use(self, name: str) -> None:
        """The message, after those that it has fields of."""
        if name in self.used:
            return
        for each in self.messages[name].field:
            if each.type == Field.TYPE_MESSAGE and each.type_name != _TIMESTAMP:
                entry = self.entry(name, each)
                inner = name_of((entry.field[1] if entry else each).type_name)
                if inner:
                    self._use(inner)
        self.used[name] = None

    def entry(self, message: str, each: FieldDescriptorProto) -> DescriptorProto | None:
        """Of a map: the message with key and value."""
        nested = {one.name: one for one in self.messages[message].nested_type}
        return nested.get(name_of(each.type_name))


def name_of(type_name: str) -> str:
    return type_name.rpartition(".")[2]


def words(enum: EnumDescriptorProto) -> str:
    """Its values as ``dataclass_of`` writes them."""
    prefix = enum.value[0].name.removesuffix("UNSPECIFIED")
    names = [one.name.removeprefix(prefix).lower().replace("_", "-") for one in enum.value[1:]]
    return ", ".join(f'"{name}"' for name in ["", *names])


def declared(contract: Contract, message: str, each: FieldDescriptorProto) -> tuple[str, str]:
    """(type, default) of a field."""
    entry = contract.entry(message, each)
    if entry is not None:
        key, value = (kind(one)[0] for one in entry.field)
        return f"dict[{key}, {value}]", "field(default_factory=dict)"
    one, default = kind(each)
    if each.label == Field.LABEL_REPEATED:
        if each.type in _FLOATS:
            array = _FLOATS[each.type]
            return f"npt.NDArray[{array}]", f"field(default_factory=lambda: np.empty(0, {array}))"
        return f"tuple[{one}, ...]", "()"
    if each.type == Field.TYPE_MESSAGE or each.HasField("oneof_index"):
        return f"{one} | None", "None"
    return one, default


def kind(each: FieldDescriptorProto) -> tuple[str, str]:
    if each.type_name == _TIMESTAMP:
        return "datetime", "None"
    if each.type == Field.TYPE_MESSAGE:
        return name_of(each.type_name), "None"
    if each.type == Field.TYPE_ENUM:
        return name_of(each.type_name), '""'
    return _SCALARS.get(each.type, ("int", "0"))


def quoted(text: str, indent: str = "    ") -> Iterator[str]:
    if text.strip():
        lines = textwrap.fill(" ".join(text.split()), 116 - len(indent), break_on_hyphens=False).replace("\\", "\\\\")
        end = " " if lines.endswith('"') else ""
        yield textwrap.indent(f'"""{lines}{end}"""', indent)


def module(contract: Contract) -> Iterator[str]:
    yield _HEAD
    for home in sorted({contract.modules[name] for name in contract.used}):
        package, _, name = home.rpartition(".")
        yield f"from {package} import {name}"
    yield ""
    fields = {name: contract.messages[name].field for name in contract.used}
    used = {name_of(each.type_name) for some in fields.values() for each in some if each.type == Field.TYPE_ENUM}
    for name in sorted(used):
        yield f"{name}: TypeAlias = Literal[{words(contract.enums[name])}]"
    for name in contract.used:
        arrays = any(each.label == Field.LABEL_REPEATED and each.type in _FLOATS for each in fields[name])
        yield f"\n\n@dataclass(frozen=True, kw_only=True, repr=False{', eq=False' * arrays})\nclass {name}(Answer):"
        text = contract.texts[name, ""]
        yield from quoted(text)
        if text.strip() and fields[name]:
            yield ""
        for each in fields[name]:
            type_, default = declared(contract, name, each)
            yield f"    {each.name}: {type_} = {default}"
            yield from quoted(contract.texts[name, each.name])
        if not fields[name] and not text.strip():
            yield "    pass"
    yield "\n"
    for name in contract.used:
        home = name_of(contract.modules[name])
        yield f"@overload\ndef as_dataclass(answer: {home}.{name}) -> {name}: ..."
    yield _TAIL.rstrip("\n")


def main() -> None:
    files = FileDescriptorSet.FromString(CONTRACT.read_bytes())
    home = Path(sys.argv[1] if len(sys.argv) > 1 else "proto") / HOME
    home.write_text("\n".join(module(Contract(files))) + "\n")


if __name__ == "__main__":
    main()
