"""What is counted in an encoded message before it is parsed, against what the parser finds in it."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from oneglance.v1.common_pb2 import DATA_TYPE_UINT8, Encoding, Example, Tensor
from oneglance.v1.face_pb2 import Box, FaceSelector
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.subject_pb2 import BulkEnrollRequest, EnrollRequest
from oneglance_core.manifests import MAX_DIMENSION
from oneglance_server.app import SERVICES
from oneglance_server.errors import InvalidRequest
from oneglance_server.servicers.message_limits import (
    LABELLED_REQUESTS,
    LABELS_BYTES,
    LARGE_REQUESTS,
    MAX_ELEMENTS,
    SMALL_REQUEST_BYTES,
    max_request_bytes,
    request_shape,
)
from oneglance_server.servicers.wire import MAX_FIELDS, UNCOUNTED_BYTES

PADDING = b"\xa2\x06" + b"\x80\x10" + bytes(UNCOUNTED_BYTES)  # an unknown field: nothing is counted in short messages


def methods() -> Iterator[MethodDescriptor]:
    for name in SERVICES:
        yield from descriptor_pool.Default().FindServiceByName(name).methods


def method(name: str) -> MethodDescriptor:
    return descriptor_pool.Default().FindMethodByName(f"oneglance.v1.{name}")


ENROLL, BULK = method("SubjectService.Enroll"), method("SubjectService.BulkEnroll")
IDENTIFY = method("IdentificationService.Identify")
LONG = 10**6


def refusal(of: MethodDescriptor, data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request_shape(of).check(data)
    return caught.value


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def repeated_fields(message: Descriptor) -> Iterator[FieldDescriptor]:
    for one in message.fields:
        if one.is_repeated:
            yield one
        if one.message_type:
            yield from repeated_fields(one.message_type)


def test_every_repeated_field_of_a_request_has_a_limit_and_no_other_has() -> None:
    found = {one.full_name for rpc in methods() for one in repeated_fields(rpc.input_type)}
    assert found == set(MAX_ELEMENTS)


def test_every_method_whose_requests_are_large_is_there_and_takes_contents() -> None:
    assert {rpc.full_name for rpc in methods()} >= LARGE_REQUESTS

    def has_bytes(message: Descriptor) -> bool:
        return any(
            one.type == FieldDescriptor.TYPE_BYTES or (one.message_type and has_bytes(one.message_type))
            for one in message.fields
        )

    for rpc in methods():
        assert (rpc.full_name in LARGE_REQUESTS) == has_bytes(rpc.input_type)
        small = LABELS_BYTES if rpc.full_name in LABELLED_REQUESTS else SMALL_REQUEST_BYTES
        assert max_request_bytes(rpc, 1 << 30) == (1 << 30 if has_bytes(rpc.input_type) else small)


@pytest.mark.parametrize(
    ("of", "number", "limit", "path"),
    [
        (IDENTIFY, 2, 1024, "probes"),
        (ENROLL, 3, 64, "examples"),
        (ENROLL, 4, 64, "labels"),
        (method("DetectionService.DetectFaces"), 1, 64, "images"),
        (method("IdentificationService.Encode"), 1, 1024, "examples"),
    ],
)
def test_repeated_fields_are_counted_up_to_their_limit(
    of: MethodDescriptor, number: int, limit: int, path: str
) -> None:
    shape = request_shape(of)
    shape.check(PADDING + field(number, b"") * limit)
    error = refusal(of, PADDING + field(number, b"") * LONG)
    assert (error.reason, error.fields[0][0], error.metadata["limit"]) == ("TOO_MANY", path, str(limit))
    assert refusal(of, PADDING + field(number, b"") * (limit + 1)).reason == "TOO_MANY"


def test_of_an_item_of_a_stream_the_paths_are_those_of_a_single_call() -> None:
    tensor = Tensor(shape=[1] * 9, data=bytes(UNCOUNTED_BYTES))
    item = EnrollRequest(examples=[Example(tensor=tensor)]).SerializeToString()
    assert refusal(BULK, field(1, item)).fields[0][0] == "examples[0].tensor.shape"


def unpacked(values: int) -> bytes:
    return b"\x0d\0\0\0\0" * values


@pytest.mark.parametrize(
    "values",
    [
        lambda n: field(1, bytes(4 * n)),
        unpacked,
        lambda n: field(1, bytes(4 * (n - 1))) + unpacked(1),
        lambda n: unpacked(1) + field(1, bytes(4 * (n - 1))),
        lambda n: unpacked(1) + b"\x12\x00" + unpacked(n - 1),
    ],
)
def test_numbers_count_packed_or_not(values: Callable[[int], bytes]) -> None:
    of, limit = IDENTIFY, 65_536
    request_shape(of).check(field(2, field(3, values(limit))))
    for many in (limit + 1, LONG):
        error = refusal(of, field(2, b"") + field(2, field(3, values(many))))
        assert (error.reason, error.fields[0][0]) == ("TOO_MANY", "probes[1].encoding.values")
    # Given twice, a message that is not repeated is merged.
    assert refusal(of, field(2, field(3, values(limit)) + field(3, values(2)))).reason == "TOO_MANY"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("value", [b"\x01", b"\xff" * 9 + b"\x01"])
def test_sizes_of_a_tensor_count_packed_or_not(packed: bool, value: bytes) -> None:
    def probe(sizes: int) -> bytes:
        return field(2, field(2, PADDING + (field(2, value * sizes) if packed else (b"\x10" + value) * sizes)))

    request_shape(IDENTIFY).check(probe(8))
    for many in (9, LONG):
        error = refusal(IDENTIFY, probe(many))
        assert (error.reason, error.fields[0][0]) == ("TOO_MANY", "probes[0].tensor.shape")


@pytest.mark.parametrize(
    "one",
    [
        b"\x28\x01",  # a field that is not repeated
        b"\xa0\x06\x01",  # an unknown one
        b"\xa2\x06\x00",
        b"\xa5\x06\0\0\0\0",
        b"\xa1\x06\0\0\0\0\0\0\0\0",
    ],
)
def test_all_fields_together_are_counted(one: bytes) -> None:
    request_shape(IDENTIFY).check(PADDING + one * (MAX_FIELDS - 1))
    error = refusal(IDENTIFY, PADDING + one * MAX_FIELDS)
    assert (error.reason, error.metadata["limit"]) == ("TOO_MANY", str(MAX_FIELDS))


def test_a_message_given_a_million_times_is_counted() -> None:
    for encoding in (b"", bytes(UNCOUNTED_BYTES)):
        example = field(3, encoding) * (LONG // 10)  # the same encoding, again and again
        assert refusal(IDENTIFY, field(2, example)).reason == "TOO_MANY"


@pytest.mark.parametrize(
    "tail",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        field(2, PADDING + b"\x1a\x09ab"),  # what is inside reaches beyond what it is in
        b"\xa5\x06\0\0",
        b"\xa1\x06\0\0",
        b"\x28\x80",
        b"\x80" * 11,
        b"\xa3\x06" * 1000,  # groups
        b"\x07",
    ],
)
def test_what_is_no_message_is_malformed(tail: bytes) -> None:
    assert refusal(IDENTIFY, PADDING + tail).reason == "MALFORMED"


CONTENTS = st.one_of(
    st.binary(max_size=3000).map(lambda data: Example(image=data)),
    st.lists(st.floats(width=32), max_size=600).map(lambda v: Example(encoding=Encoding(values=v, encoder_digest="é"))),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8).map(
        lambda shape: Example(tensor=Tensor(data_type=DATA_TYPE_UINT8, shape=shape, data=b"x" * 40))
    ),
    st.just(Example(image=b"a", face=FaceSelector(box=Box(x=1, y=2, width=3, height=-1)))),
)


@given(examples=st.lists(CONTENTS, max_size=64), labels=st.dictionaries(st.text(), st.text(), max_size=64))
def test_every_honest_message_passes(examples: list[Example], labels: dict[str, str]) -> None:
    enroll = EnrollRequest(gallery_id="g", examples=examples, labels=labels, request_id="r" * 300)
    identify = IdentifyRequest(gallery_id="g", probes=examples, tau=0.5, max_candidates=-1, all_matches=True)
    messages: list[tuple[MethodDescriptor, Message]] = [
        (ENROLL, enroll),
        (BULK, BulkEnrollRequest(item=enroll)),
        (IDENTIFY, identify),
    ]
    for of, message in messages:
        request_shape(of).check(message.SerializeToString())


@given(data=st.binary(max_size=300), at=st.integers(0, 3000), times=st.integers(0, 20))
def test_whatever_comes_is_passed_or_refused(data: bytes, at: int, times: int) -> None:
    good = IdentifyRequest(gallery_id="g", probes=[Example(encoding=Encoding(values=[0.5] * 600))]).SerializeToString()
    mutated = good[:at] + data * times + good[at:]
    for of in methods():
        with contextlib.suppress(InvalidRequest):
            request_shape(of).check(mutated)


def test_one_picture_is_light_and_many_fields_are_not() -> None:
    shape = request_shape(IDENTIFY)
    photo = IdentifyRequest(gallery_id="g", probes=[Example(image=bytes(1 << 20))], max_candidates=5)
    assert shape.is_light(photo.SerializeToString())
    assert not shape.is_light(field(2, b"") * 1000)
    assert not shape.is_light(field(2, field(3, field(1, bytes(4 * (MAX_DIMENSION + 1))))))
    assert not shape.is_light(field(2, b"\x08" * 2000) * 60)  # each is short, and dense
    assert not shape.is_light(photo.SerializeToString()[:-1])  # it is cut off
