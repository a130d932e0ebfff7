from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.errors import ConfigError
from imagenet_etl.images.geometry import MAX_EDGE, MODES, Resize, parse_resize


@pytest.mark.parametrize(
    ("text", "size", "upscale", "drawn", "kept"),
    [
        ("none", (500, 375), True, (500, 375), (0, 0, 500, 375)),
        ("short_edge:256", (500, 375), False, (341, 256), (0, 0, 341, 256)),
        ("short_edge:256", (375, 500), False, (256, 341), (0, 0, 256, 341)),
        ("short_edge:256", (256, 999), False, (256, 999), (0, 0, 256, 999)),
        ("short_edge:256", (100, 50), False, (100, 50), (0, 0, 100, 50)),
        ("short_edge:256", (100, 50), True, (512, 256), (0, 0, 512, 256)),
        ("squash:64x32", (500, 375), False, (64, 32), (0, 0, 64, 32)),
        ("squash:64x32", (40, 375), False, (40, 32), (0, 0, 40, 32)),
        ("squash:64x32", (40, 20), False, (40, 20), (0, 0, 40, 20)),
        ("squash:64x32", (40, 20), True, (64, 32), (0, 0, 64, 32)),
        ("crop:224x224", (500, 375), False, (299, 224), (37, 0, 261, 224)),
        ("crop:224x224", (375, 500), False, (224, 299), (0, 37, 224, 261)),
        ("crop:200x100", (400, 400), False, (200, 200), (0, 50, 200, 150)),
        ("crop:224x224", (100, 300), False, (100, 300), (0, 38, 100, 262)),
        ("crop:224x224", (100, 300), True, (224, 672), (0, 224, 224, 448)),
        ("crop:224x224", (224, 224), True, (224, 224), (0, 0, 224, 224)),
    ],
)
def test_each_mode_draws_and_keeps(text, size, upscale, drawn, kept):
    resize = parse_resize(text)
    assert resize.scaled(*size, upscale=upscale) == drawn
    assert resize.kept(*drawn) == kept


def test_parsing_gives_the_mode_and_its_edges():
    assert parse_resize("none") == Resize("none")
    assert parse_resize("short_edge:480") == Resize("short_edge", 480, 480)
    assert parse_resize("squash:64x32") == Resize("squash", 64, 32)
    assert parse_resize(f"crop:1x{MAX_EDGE}") == Resize("crop", 1, MAX_EDGE)


@pytest.mark.parametrize(
    "text",
    [
        "", "None", "none:1", "short_edge", "short_edge:", "short_edge:0", "short_edge:64x64",
        "short_edge:-1", "short_edge:1.5", "squash:64", "squash:0x64", "crop:64x0", "crop:64x",
        f"crop:{MAX_EDGE + 1}x1", f"short_edge:{MAX_EDGE + 1}", "short_edge:99999999999",
        "crop:64x64 ", "crop:64X64", "stretch:64x64", "crop:64x64\n",
    ],
)  # fmt: skip
def test_bad_settings_are_refused_with_the_modes_that_exist(text):
    with pytest.raises(ConfigError) as caught:
        parse_resize(text)
    assert repr(text) in str(caught.value) or "\\n" in str(caught.value)
    assert all(mode in str(caught.value) for mode in MODES)


EDGE = st.integers(1, 20_000)
TARGET = st.integers(1, MAX_EDGE)


@given(mode=st.sampled_from(["short_edge", "crop"]), w=EDGE, h=EDGE, tw=TARGET, th=TARGET,
       upscale=st.booleans())  # fmt: skip
def test_scaling_keeps_the_aspect_ratio_and_covers_the_target(mode, w, h, tw, th, upscale):
    resize = Resize(mode, tw, tw if mode == "short_edge" else th)
    drawn_w, drawn_h = resize.scaled(w, h, upscale=upscale)
    scale = max(Fraction(resize.width, w), Fraction(resize.height, h))
    if scale >= 1 and not upscale:
        assert (drawn_w, drawn_h) == (w, h)
        return
    assert drawn_w >= resize.width
    assert drawn_h >= resize.height
    assert abs(drawn_w - w * scale) <= Fraction(501, 1000)
    assert abs(drawn_h - h * scale) <= Fraction(501, 1000)
    if mode == "short_edge":
        assert min(drawn_w, drawn_h) == resize.width


@given(mode=st.sampled_from(["short_edge", "crop", "squash"]), w=EDGE, h=EDGE, tw=TARGET,
       th=TARGET)  # fmt: skip
def test_without_upscale_no_edge_grows(mode, w, h, tw, th):
    resize = Resize(mode, tw, tw if mode == "short_edge" else th)
    drawn_w, drawn_h = resize.scaled(w, h, upscale=False)
    assert 1 <= drawn_w <= w
    assert 1 <= drawn_h <= h


@given(mode=st.sampled_from(["none", "short_edge", "crop", "squash"]), w=EDGE, h=EDGE, tw=TARGET,
       th=TARGET, upscale=st.booleans())  # fmt: skip
def test_what_was_resized_once_fits(mode, w, h, tw, th, upscale):
    resize = Resize(mode, tw, tw if mode == "short_edge" else th)
    left, upper, right, lower = resize.kept(*resize.scaled(w, h, upscale=upscale))
    size = (right - left, lower - upper)
    assert resize.scaled(*size, upscale=upscale) == size
    assert resize.kept(*size) == (0, 0, *size)


@given(w=EDGE, h=EDGE, tw=TARGET, th=TARGET)
def test_a_crop_is_centred_within_the_drawn_image(w, h, tw, th):
    resize = Resize("crop", tw, th)
    drawn_w, drawn_h = resize.scaled(w, h, upscale=True)
    left, upper, right, lower = resize.kept(drawn_w, drawn_h)
    assert (right - left, lower - upper) == (tw, th)
    assert 0 <= (drawn_w - right) - left <= 1
    assert 0 <= (drawn_h - lower) - upper <= 1
