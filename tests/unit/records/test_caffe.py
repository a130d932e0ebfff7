"""Our messages against those of the protobuf package, built from the field numbers alone."""

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.errors import RecordError
from imagenet_etl.records.caffe import Datum, blob_proto, datum_parts, parse_datum

_FIELD = descriptor_pb2.FieldDescriptorProto
OPTIONAL, REPEATED = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
# caffe.proto, proto2: name, number, type.
DATUM = [("channels", 1, _FIELD.TYPE_INT32), ("height", 2, _FIELD.TYPE_INT32),
         ("width", 3, _FIELD.TYPE_INT32), ("data", 4, _FIELD.TYPE_BYTES),
         ("label", 5, _FIELD.TYPE_INT32), ("float_data", 6, _FIELD.TYPE_FLOAT),
         ("encoded", 7, _FIELD.TYPE_BOOL)]  # fmt: skip
BLOB = [("num", 1, _FIELD.TYPE_INT32), ("channels", 2, _FIELD.TYPE_INT32),
        ("height", 3, _FIELD.TYPE_INT32), ("width", 4, _FIELD.TYPE_INT32),
        ("data", 5, _FIELD.TYPE_FLOAT)]  # fmt: skip


def message_class(name, fields, packed=()):
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="t", syntax="proto2")
    message = file.message_type.add(name=name)
    for field, number, kind in fields:
        many = field in ("float_data", *packed)
        added = message.field.add(
            name=field, number=number, type=kind, label=REPEATED if many else OPTIONAL
        )
        if field in packed:
            added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))


ProtobufDatum = message_class("Datum", DATUM)
ProtobufBlob = message_class("BlobProto", BLOB, packed=("data",))

SIZE = st.integers(0, 2**31 - 1)
DATUMS = st.builds(Datum, SIZE, SIZE, SIZE, st.binary(max_size=300))


def encoded(datum):
    return b"".join(map(bytes, datum_parts(datum)))


@given(DATUMS)
def test_protobuf_reads_our_datum_and_writes_the_same_bytes(datum):
    message = ProtobufDatum.FromString(encoded(datum))
    assert message.channels == 3
    assert (message.height, message.width) == (datum.height, datum.width)
    assert (message.label, message.data, message.encoded) == (datum.label, datum.data, True)
    assert not message.float_data
    assert all(message.HasField(name) for name, _, _ in DATUM if name != "float_data")
    assert message.SerializeToString(deterministic=True) == encoded(datum)


@given(DATUMS, st.lists(st.integers(1, 3), max_size=2))
def test_we_read_protobufs_datum(datum, channels):
    message = ProtobufDatum(
        height=datum.height, width=datum.width, label=datum.label, data=datum.data, encoded=True
    )
    if channels:
        message.channels = channels[0]
    found = parse_datum(message.SerializeToString())
    assert (found.height, found.width, found.label) == (datum.height, datum.width, datum.label)
    assert bytes(found.data) == datum.data


def test_the_image_is_not_copied_into_the_message():
    image = b"image" * 100
    assert datum_parts(Datum(1, 2, 3, image))[1] is image


def test_fields_may_come_in_any_order_and_twice():
    one = ProtobufDatum(height=1, data=b"old", encoded=True).SerializeToString()
    other = ProtobufDatum(width=2, label=3, data=b"new").SerializeToString()
    for message in (one + other, other + one):
        found = parse_datum(message)
        assert (found.height, found.width, found.label) == (1, 2, 3)
    assert bytes(parse_datum(one + other).data) == b"new"


WHOLE = Datum(300, 200, 999, b"image" * 40)


@pytest.mark.parametrize("size", range(len(encoded(WHOLE))))
def test_every_cut_of_a_datum_is_refused(size):
    with pytest.raises(RecordError, match="a Datum"):
        parse_datum(encoded(WHOLE)[:size])


@pytest.mark.parametrize("missing", ["height", "width", "label", "encoded"])
def test_a_datum_without_what_an_encoded_image_needs_is_refused(missing):
    message = ProtobufDatum.FromString(encoded(WHOLE))
    message.ClearField(missing)
    with pytest.raises(RecordError, match="without size, label or encoded image"):
        parse_datum(message.SerializeToString())


def test_a_datum_of_raw_pixels_is_refused():
    raw = ProtobufDatum(channels=3, height=1, width=1, label=0, data=b"BGR", encoded=False)
    with pytest.raises(RecordError, match="encoded image"):
        parse_datum(raw.SerializeToString())
    floats = ProtobufDatum(channels=1, height=1, width=1, label=0, float_data=[0.5])
    with pytest.raises(RecordError, match="wire type 5"):
        parse_datum(floats.SerializeToString())


@pytest.mark.parametrize("number", [b"\x80" * 10 + b"\x01", b"\xff" * 20, b"\x80"])
def test_a_number_without_an_end_is_refused(number):
    with pytest.raises(RecordError, match="a broken number"):
        parse_datum(b"\x10" + number)


@given(st.binary(max_size=40))
def test_noise_is_refused_or_is_a_datum_to_protobuf_too(noise):
    try:
        found = parse_datum(noise)
    except RecordError:
        return
    try:
        message = ProtobufDatum.FromString(noise)
    except DecodeError:  # it checks more: field 0, and wire types against the descriptor
        return
    assert message.data == bytes(found.data)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_protobuf_reads_our_mean_as_planes_of_blue_green_and_red(height, width, seed):
    mean = np.random.default_rng(seed).uniform(0, 255, (height, width, 3))
    message = ProtobufBlob.FromString(blob_proto(mean))
    assert (message.num, message.channels, message.height, message.width) == (1, 3, height, width)
    planes = np.array(message.data, np.float32).reshape(3, height, width)
    for plane, channel in zip(planes, (2, 1, 0), strict=True):
        assert np.array_equal(plane, mean[:, :, channel].astype(np.float32))
    assert message.SerializeToString(deterministic=True) == blob_proto(mean)
