"""That drawn images look as they should: filters, alignment, colour, unusual files."""

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from cykooz_resizer import CpuExtensions, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions
from cykooz_resizer import Resizer as ReferenceResizer
from PIL import Image
from tests.support.archives import encoded, picture
from tests.unit.images.pictures import (
    NO_SAMPLES,
    SAMPLES,
    apply,
    decoded,
    exif_of,
    pixels_of,
    psnr,
    samples,
)

from imagenet_etl.images.decode import decode_jpeg, rgb_of, upright
from imagenet_etl.images.draw import DCT_MARGIN, Drawer, decoder_factor
from imagenet_etl.images.geometry import Resize
from imagenet_etl.images.spec import parse_image_spec
from imagenet_etl.images.transform import RE_ENCODED
from imagenet_etl.samples.images import generated_jpeg


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def likeness(data, edge):
    """Return the PSNR to Lanczos of what is drawn and of a box filter, OpenCV's INTER_AREA."""
    image = opened(data)
    drawn = pixels_of(data, f"short_edge:{edge}", 10**9)
    size = drawn.shape[1::-1]
    reference = image.resize(size, Image.Resampling.LANCZOS)
    return psnr(drawn, reference), psnr(image.resize(size, Image.Resampling.BOX), reference)


@pytest.mark.parametrize("edge", [32, 64, 100, 128, 200, 256])
def test_shrinking_is_at_least_as_faithful_as_area_averaging(edge):
    ours, area = np.mean([likeness(generated_jpeg(seed, 500), edge) for seed in range(8)], axis=0)
    assert ours >= area


@pytest.mark.skipif(not SAMPLES.exists(), reason=NO_SAMPLES)
@pytest.mark.parametrize("edge", [64, 128, 256])
def test_shrinking_photographs_is_at_least_as_faithful_as_area_averaging(edge):
    ours, area = np.mean([likeness(data, edge) for data in samples(25)], axis=0)
    assert ours >= area


@pytest.mark.parametrize("noise", [0, 40])
@pytest.mark.parametrize(
    ("size", "wanted"),
    [((500, 200), (224, 224)), ((200, 500), (224, 224)), ((500, 375), (224, 375)),
     ((500, 375), (500, 160)), ((500, 375), (300, 400)), ((500, 200), (100, 201))],
)  # fmt: skip
def test_what_shrinks_along_one_edge_only_is_as_faithful_as_area_averaging(size, wanted, noise):
    image = opened(generated_jpeg(5, 500)).resize(size, Image.Resampling.LANCZOS)
    # Noise shows what aliases.
    grain = np.random.default_rng(5).integers(-noise, noise + 1, (size[1], size[0], 1))
    image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    data = encoded(image, "PNG")
    drawn = pixels_of(data, f"squash:{wanted[0]}x{wanted[1]}:upscale")
    reference = image.resize(wanted, Image.Resampling.LANCZOS)
    area = image.resize(wanted, Image.Resampling.BOX)
    assert psnr(drawn, reference) >= psnr(area, reference)
    assert psnr(drawn, reference) > psnr(image.resize(wanted, Image.Resampling.BILINEAR), reference)


@pytest.mark.parametrize(
    ("size", "edge", "factor"),
    [
        ((500, 375), 256, 1), ((500, 375), 124, 2), ((500, 375), 126, 1), ((500, 375), 62, 4),
        ((500, 375), 31, 8), ((4000, 3000), 16, 8), ((16, 16), 16, 1), ((9, 9), 99, 1),
    ],
)  # fmt: skip
def test_the_decoder_scales_as_far_as_the_filter_keeps_enough(size, edge, factor):
    placement = Resize("short_edge", edge, edge).place(*size, upscale=True)
    assert decoder_factor(placement) == factor
    assert factor == 1 or placement.shrinkage >= DCT_MARGIN * factor


@pytest.mark.parametrize("size", [(640, 480), (637, 475), (641, 487), (633, 485)])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_scaling_in_the_decoder_shifts_nothing(size, factor):
    data = encoded(picture(*size), quality=95)
    placement = Resize("squash", 40, 30).place(*size, upscale=False)
    full, scaled = (
        Drawer().draw(*decode_jpeg(data, size, by), placement, "000000", False).astype(int)
        for by in (1, factor)
    )
    assert np.abs(full - scaled).max() <= 6
    assert np.abs((full - scaled).mean(axis=(0, 1))).max() < 0.5
    # A shift by half a decoded pixel, which edges rounded up would cause, stands out at the right.
    assert np.abs((full - scaled)[:, -1].mean(axis=0)).max() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_are_drawn_as_upright_ones_are(orientation):
    data = encoded(picture(237, 175), exif=exif_of(orientation))
    turned = upright(decode_jpeg(data, (237, 175), 1)[0], orientation)
    placement = Resize("squash", 25, 20).place(*turned.shape[1::-1], upscale=False)
    drawn = pixels_of(data, "squash:25x20")
    # Only what is stored upright is scaled in the decoder.
    factor = decoder_factor(placement)
    assert factor > 1
    wanted = rgb_of(Drawer().draw(turned, 1, placement, "000000", False))
    assert (drawn == wanted).all() == (orientation != 1)
    assert psnr(drawn, wanted) > 40


@pytest.mark.parametrize(
    "spec",
    ["short_edge:256", "short_edge:90", "long_edge:700:upscale", "squash:64x64", "fill:400x300",
     "short_edge:200:im2rec_compat", "short_edge:400:im2rec_compat", "none:png"],
)  # fmt: skip
@pytest.mark.parametrize("quality", [90, 95])
def test_no_colour_is_shifted(spec, quality):
    data = encoded(picture(400, 300, seed=7), quality=95)
    mean = np.asarray(opened(data)).mean(axis=(0, 1))
    assert np.abs(pixels_of(data, spec).mean(axis=(0, 1)) - mean).max() < 0.6
    out = apply(data, f"{spec}:q{quality}")
    image = decoded(out, "PNG" if "png" in spec else "JPEG")
    assert np.abs(np.asarray(image).mean(axis=(0, 1)) - mean).max() < 0.8


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 30, 60)])
def test_a_plain_colour_stays_that_colour(colour):
    data = encoded(Image.new("RGB", (99, 77), colour), "PNG")
    for spec in ("short_edge:33", "short_edge:200:upscale", "squash:40x40:im2rec_compat"):
        assert (pixels_of(data, spec) == colour).all()


def bilinear(image, width, height):
    """Sample an array as OpenCV's INTER_LINEAR does: half-pixel centres, edges repeated."""
    rows, columns = image.shape[:2]
    samples = image.astype(np.float64)
    for axis, (of, to) in enumerate(((rows, height), (columns, width))):
        at = np.clip((np.arange(to) + 0.5) * of / to - 0.5, 0, of - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if axis == n else 1 for n in range(3)])
        high = np.minimum(low + 1, of - 1)
        samples = samples.take(low, axis) * (1 - share) + samples.take(high, axis) * share
    return samples


@pytest.mark.parametrize("size", [(400, 300), (300, 401), (333, 77)])
@pytest.mark.parametrize("edge", [40, 123, 480])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_im2rec_is_followed_to_within_one_of_255(size, edge, kind):
    data = encoded(picture(*size, seed=edge), kind)
    image = opened(data)
    out = pixels_of(data, f"short_edge:{edge}:im2rec_compat")
    w, h = size
    wanted = (edge, h * edge // w) if h > w else (w * edge // h, edge)
    assert out.shape[1::-1] == wanted
    assert np.abs(out - bilinear(np.asarray(image), *wanted)).max() < 1.001


@pytest.mark.parametrize("quality", [50, 90, 95])
def test_im2rec_always_encodes_again_as_libjpeg_does(quality):
    data = encoded(picture(120, 80), quality=quality, subsampling=2)
    out = apply(data, f"none:im2rec_compat:q{quality}")
    assert out.how == RE_ENCODED
    assert out.data == encoded(opened(data), quality=quality, subsampling=2)


def test_a_file_with_stray_bytes_is_read_as_others_read_it():
    data = encoded(picture(400, 300))
    stray = data[:-2] + b"\x12\x34\x56" + data[-2:]
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(stray)
    assert (pixels_of(stray, "none:png") == np.asarray(opened(data))).all()
    assert psnr(pixels_of(stray, "short_edge:40"), pixels_of(data, "short_edge:40")) > 35


@pytest.mark.parametrize("spec", ["none:png", "short_edge:40:png"])
def test_a_jpeg_that_stores_rgb_keeps_its_colours(spec):
    image = picture(400, 300)
    data = encoded(image, quality=95, keep_rgb=True)
    out = decoded(apply(data, spec), "PNG")
    assert psnr(out, image.resize(out.size, Image.Resampling.LANCZOS)) > 35


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
def test_every_chroma_sampling_is_read(sampling):
    image = picture(400, 300)
    data = simplejpeg.encode_jpeg(np.asarray(image), 95, "RGB", sampling)
    for size in ("200x150", "90x60"):
        drawn = pixels_of(data, f"squash:{size}")
        wanted = image.resize(drawn.shape[1::-1], Image.Resampling.LANCZOS)
        assert psnr(drawn, wanted) > 35


def reference(pixels, size, extensions=None):
    """Resize through the resizer's interface that copies; bilinearly what nowhere shrinks."""
    enlarges = size[0] >= pixels.shape[1] and size[1] >= pixels.shape[0]
    kernel = FilterType.bilinear if enlarges else FilterType.catmull_rom
    resizer = ReferenceResizer()
    if extensions:
        resizer.cpu_extensions = extensions
    source = ImageData(*pixels.shape[1::-1], PixelType.U8x4, pixels.tobytes())
    target = ImageData(*size, PixelType.U8x4)
    options = ResizeOptions(ResizeAlg.convolution(kernel), use_alpha=False)
    resizer.resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size[1], size[0], 4)


@pytest.mark.parametrize("size", [(64, 48), (500, 400), (1, 1), (640, 3)])
def test_what_is_drawn_depends_neither_on_the_processor_nor_on_shared_memory(size):
    pixels = np.random.default_rng(3).integers(0, 256, (300, 400, 4), np.uint8)
    placement = Resize("squash", *size).place(400, 300, upscale=True)
    drawn = Drawer().draw(pixels, 1, placement, "000000", False)
    assert (drawn == reference(pixels, size)).all()
    assert (drawn == reference(pixels, size, CpuExtensions.none)).all()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_drawing_starts_no_threads():
    def threads():
        return {path.name for path in Path("/proc/self/task").iterdir()}

    before = threads()
    pixels = np.zeros((3000, 3000, 4), np.uint8)
    placement = parse_image_spec("squash:1500x1500").place(3000, 3000)
    Drawer().draw(pixels, 1, placement, "000000", False)
    assert threads() <= before


def test_the_fourth_byte_is_dropped():
    pixels = np.random.default_rng(4).integers(0, 256, (31, 53, 4), np.uint8)
    assert (rgb_of(pixels) == pixels[..., :3]).all()
