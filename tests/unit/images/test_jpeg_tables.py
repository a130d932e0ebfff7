"""That a JPEG which no decoder reads, or only in an age, is told by its headers."""

import struct
import time

import numpy as np
import pytest
import simplejpeg
from tests.support.archives import encoded, picture
from tests.unit.images.pictures import apply, resized_header

from imagenet_etl.errors import BadImage
from imagenet_etl.images.jpeg import MAX_SCANS, probe_jpeg
from imagenet_etl.images.transform import COPIED

DQT, DHT, SOF, SOS = 0xDB, 0xC4, 0xC0, 0xDA
COLOUR = encoded(picture(40, 30))


def segments(data):
    """Return the marker segments up to the first scan as pairs, and what follows."""
    found, at = [], 2
    while not found or found[-1][0] != SOS:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found, data[at:]


def joined(found, rest):
    heads = [bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body for code, body in found]
    return b"\xff\xd8" + b"".join(heads) + rest


def changed(data, code, change):
    """Return a JPEG whose segments with that code are changed; None drops them."""
    found, rest = segments(data)
    assert code in dict(found)
    bodies = [(kind, change(body) if kind == code else body) for kind, body in found]
    return joined([(kind, body) for kind, body in bodies if body is not None], rest)


def put(at, value):
    return lambda body: body[:at] + bytes([value]) + body[at + 1 :]


def drop(_body):
    return None


def quantization(*numbers, bits=0):
    entry = b"\0\1" if bits else b"\1"
    return b"".join(bytes([bits << 4 | number]) + entry * 64 for number in numbers)


def other_decoder_reads(data):
    try:
        simplejpeg.decode_jpeg(data)
    except ValueError:
        return False
    return True


BROKEN = {
    "no quantization table": (DQT, drop, "without a quantization table it names"),
    "another quantization table": (
        DQT, lambda _: quantization(3), "without a quantization table it names"),
    "a component's table is missing": (SOF, put(8, 2), "without a quantization table it names"),
    "cut quantization table": (DQT, lambda body: body[:-1], "broken quantization table"),
    "long quantization table": (DQT, lambda body: body + b"\0", "broken quantization table"),
    "fifth quantization table": (DQT, lambda _: quantization(0, 1, 4), "broken quantization table"),
    "quantization of 32 bits": (DQT, put(0, 0x20), "broken quantization table"),
    "sampling 0": (SOF, put(7, 0x20), "sampling factors"),
    "sampling 5": (SOF, put(10, 0x51), "sampling factors"),
    "no component": (SOF, lambda body: body[:5] + b"\0", "frame header"),
    "fewer components than said": (SOF, lambda body: body[:-3], "frame header"),
    "longer frame header": (SOF, lambda body: body + b"\0", "frame header"),
    "scan of an unknown component": (SOS, put(3, 77), "component that its frame has not"),
    "scan of nothing": (SOS, lambda body: b"\0" + body[-3:], "scan header"),
    "scan of more than there is": (
        SOS, lambda body: b"\4" + body[1:7] + body[1:3] + body[7:], "scan header"),
    "cut scan header": (SOS, lambda body: body[:-1], "scan header"),
    "empty scan header": (SOS, lambda body: b"", "scan header"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("spec", ["none", "short_edge:20"])
def test_a_jpeg_that_no_decoder_reads_is_refused(what, spec):
    code, change, reason = BROKEN[what]
    data = changed(COLOUR, code, change)
    assert not other_decoder_reads(data)
    with pytest.raises(BadImage, match=reason):
        apply(data, spec)


@pytest.mark.parametrize("spec", ["none", "short_edge:20"])
def test_a_jpeg_whose_huffman_tables_a_decoder_must_know_is_refused(spec):
    data = changed(COLOUR, DHT, drop)
    assert other_decoder_reads(data), "libjpeg-turbo knows them, as others do not"
    with pytest.raises(BadImage, match="without a Huffman table"):
        apply(data, spec)


def test_a_second_frame_header_is_refused():
    found, rest = segments(COLOUR)
    at = [code for code, _ in found].index(SOF)
    data = joined([*found[:at], found[at], *found[at:]], rest)
    assert not other_decoder_reads(data)
    with pytest.raises(BadImage, match="second frame header"):
        apply(data)


@pytest.mark.parametrize(
    "bodies",
    [[quantization(0, 1)], [quantization(1), quantization(0)], [quantization(0, 1, 2, 3)],
     [quantization(0, 1, bits=1)], [quantization(0, 0), quantization(1)]],
)  # fmt: skip
def test_quantization_tables_are_found_however_they_are_stored(bodies):
    found, rest = segments(changed(COLOUR, DQT, drop))
    data = joined([(DQT, body) for body in bodies] + found, rest)
    assert other_decoder_reads(data)
    assert apply(data).how == COPIED


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
def test_every_usual_sampling_is_copied(sampling):
    data = simplejpeg.encode_jpeg(np.asarray(picture(40, 30)), 90, "RGB", sampling)
    assert apply(data).how == COPIED


@pytest.mark.parametrize("code", [0xC9, 0xCA])
def test_arithmetic_coding_needs_no_huffman_tables(code):
    data = changed(COLOUR, DHT, drop).replace(b"\xff\xc0", bytes([0xFF, code]), 1)
    assert not probe_jpeg(data).is_common


def test_lossless_coding_needs_no_quantization_tables():
    data = changed(COLOUR, DQT, drop).replace(b"\xff\xc0", b"\xff\xc3", 1)
    assert not probe_jpeg(data).is_common


PROGRESSIVE = encoded(picture(40, 30), progressive=True)


def with_scans(data, count, size=None):
    """Repeat the last scan until there are ``count``."""
    if size:
        at = data.index(b"\xff\xc2") + 5
        data = data[:at] + struct.pack(">HH", size[1], size[0]) + data[at + 4 :]
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def test_as_many_scans_as_allowed_are_copied_and_one_more_is_refused():
    assert apply(with_scans(PROGRESSIVE, MAX_SCANS)).how == COPIED
    with pytest.raises(BadImage, match="more than 100 scans"):
        apply(with_scans(PROGRESSIVE, MAX_SCANS + 1))


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("spec", ["none", "short_edge:16", "short_edge:16:png"])
def test_thousands_of_scans_are_refused_before_any_decoding(mode, spec):
    data = encoded(picture(40, 30, mode), progressive=True)
    data = with_scans(data, 5000, (4000, 4000))
    start = time.process_time()
    with pytest.raises(BadImage, match="more than 100 scans"):
        apply(data, spec, 64_000_000)
    assert time.process_time() - start < 0.5


def one_by_one(data):
    """Return a baseline JPEG whose first scan holds but one of its components."""
    return changed(data, SOS, lambda body: b"\1" + body[1:3] + body[7:])


def test_scans_of_a_baseline_jpeg_that_holds_components_one_by_one_count_too():
    data = one_by_one(COLOUR)
    assert probe_jpeg(data).is_progressive
    with pytest.raises(BadImage, match="more than 100 scans"):
        probe_jpeg(with_scans(data, MAX_SCANS + 1))


def test_thumbnails_before_the_first_scan_do_not_count():
    found, rest = segments(PROGRESSIVE)
    data = joined([(0xE1, b"\xff\xda" * 500), *found], rest)
    assert apply(data).how == COPIED


@pytest.mark.parametrize("spec", ["none", "short_edge:8"])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_progressive_jpeg_may_have_a_quarter_of_the_pixels(spec, mode):
    data = encoded(picture(40, 30, mode), progressive=True)
    apply(data, spec, max_pixels=4800)
    with pytest.raises(BadImage, match="40x30 pixels in several scans, above the limit of 1199"):
        apply(data, spec, max_pixels=4799)
    apply(encoded(picture(40, 30, mode)), spec, max_pixels=1200)


def test_the_limit_for_all_images_is_named_to_a_progressive_one_beyond_it():
    with pytest.raises(BadImage, match="40x30 pixels, above the limit of 1199"):
        apply(PROGRESSIVE, max_pixels=1199)


def test_a_jpeg_of_one_component_is_not_taken_for_one_of_several_scans():
    assert not probe_jpeg(encoded(picture(40, 30, "L"))).is_progressive
    assert not probe_jpeg(resized_header(COLOUR, 400, 300)).is_progressive
