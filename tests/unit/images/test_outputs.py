import io
import threading

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin
from tests.support.archives import encoded, picture
from tests.unit.images.pictures import (
    LIMIT,
    STORED_AS,
    apply,
    decoded,
    difference,
    exif_of,
    pixels_of,
    sixteen_bit_png,
)

from imagenet_etl.images.spec import parse_image_spec
from imagenet_etl.images.transform import COPIED, RE_ENCODED, REPAIRED, Transformer

SCENE = picture(200, 150, seed=5)
PHOTO = encoded(SCENE, quality=95)


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ("short_edge:20", (30, 20)), ("squash:16x8", (16, 8)), ("crop:16x16", (16, 16)),
        ("crop:50x50", (50, 40)), ("long_edge:30", (30, 20)), ("fill:16x16", (16, 16)),
        ("fill:99x99", (99, 99)), ("half_crop:16x16", (16, 16)), ("half_crop:50x99", (50, 40)),
        ("short_edge:80:upscale", (120, 80)), ("squash:90x90:upscale", (90, 90)),
        ("crop:70x70:upscale", (70, 70)), ("long_edge:90:upscale", (90, 60)),
        ("half_crop:90x90:upscale", (90, 90)), ("center_crop", (40, 40)),
        ("short_edge:21:center_crop", (21, 21)), ("short_edge:80:im2rec_compat", (120, 80)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_an_image_that_does_not_fit_is_re_encoded_to_size(spec, size, encoding):
    out = apply(encoded(picture(60, 40)), f"{spec}:{encoding}")
    assert (out.width, out.height, out.how) == (*size, RE_ENCODED)
    assert decoded(out, encoding.upper()).mode == "RGB"


MODES = st.sampled_from(["none", "short_edge:{w}", "long_edge:{w}", "squash:{w}x{h}",
                         "crop:{w}x{h}", "fill:{w}x{h}", "half_crop:{w}x{h}"])  # fmt: skip
SWITCHES = st.lists(st.sampled_from(["upscale", "center_crop", "im2rec_compat", "png"]),
                    unique=True)  # fmt: skip
TARGET = st.integers(1, 90)


@settings(max_examples=150, deadline=None)
@given(w=st.integers(1, 130), h=st.integers(1, 130), mode=MODES, tw=TARGET, th=TARGET,
       switches=SWITCHES)  # fmt: skip
def test_every_mode_gives_every_size_as_planned(w, h, mode, tw, th, switches):
    spec = parse_image_spec(":".join([mode.format(w=tw, h=th), *switches]))
    (out,) = Transformer([spec], LIMIT, [0]).apply(encoded(Image.new("RGB", (w, h), (9, 99, 199))))
    assert (out.width, out.height) == spec.place(w, h).canvas
    decoded(out, "PNG" if out.data[:1] == b"\x89" else "JPEG")
    left, upper = spec.place(w, h).offset
    assert np.abs(out.pixels[upper, left].astype(int) - (9, 99, 199)).max() <= 3


def test_greyscale_comes_out_as_rgb_when_it_is_re_encoded():
    out = apply(encoded(picture(60, 40, "L")), "short_edge:20")
    image = decoded(out)
    assert image.mode == "RGB"
    bands = image.split()
    assert difference(bands[0], bands[1]) == difference(bands[0], bands[2]) == 0


def test_the_content_survives_resizing():
    image = picture(256, 192)
    out = apply(encoded(image, quality=95), "short_edge:96")
    assert difference(decoded(out), image.resize((128, 96), Image.Resampling.BICUBIC)) < 4


def near(pixel, colour):
    return np.abs(pixel.astype(int) - colour).max() <= 8


ORANGE, TEAL = (255, 128, 0), (0, 128, 128)


def two_halves(width, height):
    """Return an orange image with a teal right half."""
    image = Image.new("RGB", (width, height), ORANGE)
    image.paste(TEAL, (width // 2, 0, width, height))
    return encoded(image, quality=95, subsampling=0)


def test_fill_shows_the_whole_image_with_padding_around_it():
    out = pixels_of(two_halves(400, 200), "fill:100x100:fill=112233")
    assert (out[:25] == (0x11, 0x22, 0x33)).all()
    assert (out[75:] == (0x11, 0x22, 0x33)).all()
    for y in (25, 74):
        assert near(out[y, 0], ORANGE)
        assert near(out[y, 99], TEAL)


def test_fill_only_pads_a_small_image():
    data = two_halves(40, 30)
    out = pixels_of(data, "fill:61x50")
    assert (out[10:40, 10:50] == simplejpeg.decode_jpeg(data)).all()
    out = out.copy()
    out[10:40, 10:50] = 0
    assert not out.any()


def test_half_crop_cuts_the_sides_and_pads_above_and_below():
    # Drawn at 133x67: 16 pixels go left and 17 right, 16 rows are padded above and 17 below.
    out = pixels_of(two_halves(400, 200), "half_crop:100x100:fill=ffffff")
    assert (out[:16] == 255).all()
    assert (out[83:] == 255).all()
    for y in (16, 82):
        assert near(out[y, 0], ORANGE)
        assert near(out[y, 99], TEAL)
    assert near(out[50, 47], ORANGE)
    assert near(out[50, 53], TEAL)


def test_crop_keeps_the_middle():
    stripes = Image.new("RGB", (400, 200), ORANGE)
    stripes.paste(TEAL, (100, 0, 300, 200))
    out = pixels_of(encoded(stripes, quality=95, subsampling=0), "crop:50x50")
    assert near(out[25, 1], TEAL)
    assert near(out[25, 48], TEAL)


@pytest.mark.parametrize(
    "spec", ["short_edge:50", "short_edge:300:upscale", "squash:70x70:im2rec_compat"]
)
def test_nothing_from_beyond_a_center_crop_shines_through(spec):
    image = Image.new("RGB", (400, 200), ORANGE)
    image.paste(TEAL, (100, 0, 300, 200))
    data = encoded(image, "PNG")
    assert (pixels_of(data, f"{spec}:center_crop") == TEAL).all()
    assert not (pixels_of(data, spec) == TEAL).all()


def test_equal_specs_give_the_identical_result():
    specs = [parse_image_spec(text) for text in ("crop:64x64", "none", "crop:64x64:q90", "none")]
    out = Transformer(specs, LIMIT).apply(PHOTO)
    assert out[0] is out[2]
    assert out[1].data == out[3].data == PHOTO
    assert [one.how for one in out] == [RE_ENCODED, COPIED, RE_ENCODED, COPIED]


def test_several_outputs_decode_the_file_once(monkeypatch):
    calls = []

    def counted(*args, **options):
        calls.append(options)
        return real(*args, **options)

    real = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    specs = ["crop:64x64", "none", "fill:30x30", "short_edge:99:png", "im2rec_compat"]
    out = Transformer([parse_image_spec(text) for text in specs], LIMIT, [1]).apply(PHOTO)
    assert len(out) == 5
    assert len(calls) == 1
    calls.clear()
    Transformer([parse_image_spec("none")], LIMIT).apply(PHOTO)
    assert not calls


def test_an_output_is_the_same_beside_others_that_need_as_much():
    texts = ["crop:120x120", "short_edge:120:q50", "squash:110x130:png", "fill:150x150:444"]
    specs = [parse_image_spec(text) for text in texts]
    together = Transformer(specs, LIMIT).apply(PHOTO)
    assert together == [Transformer([spec], LIMIT).apply(PHOTO)[0] for spec in specs]


def test_the_most_demanding_output_decides_how_far_the_decoder_scales():
    small, large = (parse_image_spec(text) for text in ("squash:20x15:png", "squash:180x140:png"))
    together = Transformer([small, large], LIMIT, [0, 1]).apply(PHOTO)
    assert together[1] == Transformer([large], LIMIT).apply(PHOTO)[0]
    alone = Transformer([small], LIMIT, [0]).apply(PHOTO)[0]
    assert together[0] != alone
    assert np.abs(together[0].pixels.astype(int) - alone.pixels).max() <= 8


def test_pixels_are_what_went_into_the_encoder_and_only_come_when_asked_for():
    specs = [parse_image_spec(text) for text in ("crop:64x64:png", "crop:64x64", "none")]
    png, jpeg, copy = Transformer(specs, LIMIT, [0, 1]).apply(PHOTO)
    assert copy.pixels is None
    assert (png.pixels == jpeg.pixels).all()
    assert (np.asarray(decoded(png, "PNG")) == png.pixels).all()
    assert difference(decoded(jpeg), Image.fromarray(png.pixels)) < 6


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_pixels_of_a_copy_are_what_its_file_holds(mode):
    data = encoded(picture(75, 50, mode))
    (out,) = Transformer([parse_image_spec("none")], LIMIT, [0]).apply(data)
    assert (out.how, out.data) == (COPIED, data)
    with Image.open(io.BytesIO(data)) as image:
        assert (out.pixels == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_pixels_of_a_copy_lie_as_they_are_stored(orientation, kind):
    data = encoded(STORED_AS[orientation], kind, exif=exif_of(orientation))
    specs = [parse_image_spec(f"none:{kind}"), parse_image_spec(f"squash:32x16:{kind}")]
    copy, upright = Transformer(specs, LIMIT, [0, 1]).apply(data)
    assert copy.how == COPIED
    assert copy.pixels.shape == (copy.height, copy.width, 3)
    assert difference(Image.fromarray(copy.pixels), STORED_AS[orientation]) < 14
    reference = STORED_AS[1].resize((32, 16), Image.Resampling.BICUBIC)
    assert difference(Image.fromarray(upright.pixels), reference) < 14


def test_an_output_of_pngs_holds_what_was_decoded_exactly():
    out = apply(PHOTO, "png")
    assert (out.how, out.data[:4]) == (RE_ENCODED, b"\x89PNG")
    with Image.open(io.BytesIO(PHOTO)) as image:
        assert (np.asarray(decoded(out, "PNG")) == np.asarray(image)).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_plain_png_is_copied_to_an_output_of_pngs(mode):
    data = encoded(picture(60, 40, mode), "PNG")
    assert (apply(data, "png").how, apply(data, "png").data) == (COPIED, data)
    assert apply(data, "short_edge:20:png").how == RE_ENCODED
    assert apply(data, "none").how == REPAIRED


@pytest.mark.parametrize(
    "data",
    [
        encoded(SCENE.convert("RGBA"), "PNG"), encoded(SCENE.quantize(9), "PNG"),
        sixteen_bit_png(9, 9), encoded(SCENE, "GIF"), encoded(SCENE.convert("CMYK")),
    ],
    ids=["alpha", "palette", "16 bit", "gif", "cmyk"],
)  # fmt: skip
def test_what_is_no_plain_image_is_repaired_to_a_png(data):
    out = apply(data, "png")
    assert out.how == REPAIRED
    assert decoded(out, "PNG").mode == "RGB"


@pytest.mark.parametrize(("text", "sampling"), [("444", 0), ("422", 1), ("420", 2)])
@pytest.mark.parametrize("quality", [90, 95])
def test_chroma_is_subsampled_as_told(text, sampling, quality):
    image = decoded(apply(PHOTO, f"short_edge:99:{text}:q{quality}"))
    assert JpegImagePlugin.get_sampling(image) == sampling


def test_quality_decides_the_size_of_re_encoded_images():
    data = encoded(picture(200, 200), "PNG")
    sizes = [len(apply(data, f"q{quality}").data) for quality in (10, 50, 90, 91, 95, 100)]
    assert sizes == sorted(set(sizes))


def test_quality_does_not_touch_copies():
    assert apply(PHOTO, "q1") == apply(PHOTO, "q100")


SPECS = ["crop:24x24", "fill:99x99:png", "short_edge:99:q95", "squash:30x30:im2rec_compat"]


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_image_gives_the_same_bytes_on_any_thread(spec):
    found = [apply(PHOTO, spec)]
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(apply(PHOTO, spec)))
        thread.start()
        thread.join()
    transformer = Transformer([parse_image_spec(spec)], LIMIT)
    found += [transformer.apply(PHOTO)[0] for _ in range(2)]
    assert len(found) == 5
    assert all(one == found[0] for one in found)
