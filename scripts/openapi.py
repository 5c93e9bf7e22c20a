"""The OpenAPI document of the calls over HTTP, from the contract and its comments: python scripts/openapi.py [FOLDER].

scripts/generate runs it with the descriptors, which protoc writes to .venv-gen/contract.binpb.
"""

import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

CONTRACT = Path(".venv-gen/contract.binpb")
HOME = Path("oneglance_server/http/openapi.json")
PACKAGE = "oneglance.v1"
Field = FieldDescriptorProto
_STRING_NUMBERS = {Field.TYPE_INT64, Field.TYPE_UINT64, Field.TYPE_SINT64, Field.TYPE_FIXED64, Field.TYPE_SFIXED64}
_NUMBERS = {Field.TYPE_DOUBLE: "double", Field.TYPE_FLOAT: "float"}
_TIMESTAMP = ".google.protobuf.Timestamp"
_INTRODUCTION = """\
oneglance.v1 over HTTP/1.1. Each call is a POST of a JSON object; bytes are base64, 64-bit numbers are strings, times \
are RFC 3339. Fields may be named as here or as in the .proto files (galleryId, gallery_id). Calls that are streams \
speak the protocol of Connect, one message in each envelope."""
_ERROR = {
    "description": "Refused; the HTTP status says of what kind, details[0].debug why and in which field.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ConnectError"}}},
}
_CONNECT_ERROR = {
    "type": "object",
    "description": "An error as Connect writes it.",
    "properties": {
        "code": {"type": "string", "description": "Of gRPC, in small letters: not_found."},
        "message": {"type": "string", "description": "For people."},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "description": "The first is oneglance.v1.Error."},
                    "value": {"type": "string", "description": "The encoded message, in base64."},
                    "debug": {"$ref": f"#/components/schemas/{PACKAGE}.Error"},
                },
            },
        },
    },
}


class Comments:
    """What stands before each part of a file, by its path in the descriptor."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {
            tuple(one.path): one.leading_comments or one.trailing_comments for one in file.source_code_info.location
        }

    def text(self, *path: int) -> str:
        """As it is written, line by line."""
        return self._by_path.get(path, "")

    def at(self, *path: int) -> dict[str, str]:
        text = " ".join(self.text(*path).split())
        return {"description": text} if text else {}


def document(files: FileDescriptorSet) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"ConnectError": _CONNECT_ERROR}
    tags = []
    for file in files.file:
        if file.package != PACKAGE:
            continue
        comments = Comments(file)
        for i, message in enumerate(file.message_type):
            add_message(schemas, f"{PACKAGE}.{message.name}", message, comments, (4, i))
        for i, enum in enumerate(file.enum_type):
            schemas[f"{PACKAGE}.{enum.name}"] = enum_schema(enum, comments, (5, i))
        for i, service in enumerate(file.service):
            tags.append({"name": service.name, **comments.at(6, i)})
            for j, method in enumerate(service.method):
                streams = method.client_streaming or method.server_streaming
                kind = "application/connect+json" if streams else "application/json"
                paths[f"/{PACKAGE}.{service.name}/{method.name}"] = {
                    "post": {
                        "tags": [service.name],
                        "operationId": f"{service.name}_{method.name}",
                        **comments.at(6, i, 2, j),
                        "requestBody": {"required": True, "content": {kind: {"schema": reference(method.input_type)}}},
                        "responses": {
                            "200": {
                                "description": "Done; of a stream, the last envelope says how it ended."
                                if streams
                                else "Done.",
                                "content": {kind: {"schema": reference(method.output_type)}},
                            },
                            "default": _ERROR,
                        },
                    }
                }
    return {
        "openapi": "3.1.0",
        "info": {"title": "oneglance", "version": "v1", "description": _INTRODUCTION},
        "tags": tags,
        "security": [{}, {"bearer": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a token (JWT)."}
            },
        },
    }


def add_message(
    schemas: dict[str, Any], name: str, message: DescriptorProto, comments: Comments, path: tuple[int, ...]
) -> None:
    """With what is declared in it."""
    maps = {one.name: one for one in message.nested_type if one.options.map_entry}
    for i, inner in enumerate(message.nested_type):
        if inner.name not in maps:
            add_message(schemas, f"{name}.{inner.name}", inner, comments, (*path, 3, i))
    for i, enum in enumerate(message.enum_type):
        schemas[f"{name}.{enum.name}"] = enum_schema(enum, comments, (*path, 4, i))
    properties = {
        field.json_name: {**field_schema(field, maps), **comments.at(*path, 2, i)}
        for i, field in enumerate(message.field)
    }
    schemas[name] = {"type": "object", **comments.at(*path), "properties": properties, "additionalProperties": False}


def field_schema(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> dict[str, Any]:
    entry = maps.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        return {"type": "object", "additionalProperties": value_schema(entry.field[1])}
    one = value_schema(field)
    return {"type": "array", "items": one} if field.label == Field.LABEL_REPEATED else one


def value_schema(field: FieldDescriptorProto) -> dict[str, Any]:
    if field.type_name == _TIMESTAMP:
        return {"type": "string", "format": "date-time"}
    if field.type in (Field.TYPE_MESSAGE, Field.TYPE_ENUM):
        return reference(field.type_name)
    if field.type == Field.TYPE_STRING:
        return {"type": "string"}
    if field.type == Field.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    if field.type == Field.TYPE_BOOL:
        return {"type": "boolean"}
    if field.type in _NUMBERS:
        return {"type": "number", "format": _NUMBERS[field.type]}
    if field.type in _STRING_NUMBERS:
        return {"type": "string", "format": "int64"}
    return {"type": "integer", "format": "int32"}


def enum_schema(enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> dict[str, Any]:
    return {"type": "string", **comments.at(*path), "enum": [value.name for value in enum.value]}


def reference(type_name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{type_name.lstrip('.')}"}


def main() -> None:
    files = FileDescriptorSet.FromString(CONTRACT.read_bytes())
    home = Path(sys.argv[1] if len(sys.argv) > 1 else "server") / HOME
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text(json.dumps(document(files), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
