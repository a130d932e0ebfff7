from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.errors import ConfigError
from imagenet_etl.images.geometry import MAX_EDGE, MODES, Placement, Resize, parse_resize


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
        ("long_edge:256", (500, 375), False, (256, 192), (0, 0, 256, 192)),
        ("long_edge:256", (200, 256), False, (200, 256), (0, 0, 200, 256)),
        ("long_edge:256", (100, 50), True, (256, 128), (0, 0, 256, 128)),
        ("long_edge:9", (1, 5000), False, (1, 9), (0, 0, 1, 9)),
        ("fill:224x224", (500, 375), False, (224, 168), (0, 0, 224, 168)),
        ("fill:224x224", (100, 50), False, (100, 50), (0, 0, 100, 50)),
        ("fill:224x224", (100, 50), True, (224, 112), (0, 0, 224, 112)),
        ("half_crop:100x100", (400, 200), False, (133, 67), (16, 0, 116, 67)),
        ("half_crop:100x100", (200, 400), False, (67, 133), (0, 16, 67, 116)),
        ("half_crop:100x100", (150, 40), False, (150, 40), (25, 0, 125, 40)),
        ("half_crop:100x100", (150, 40), True, (158, 42), (29, 0, 129, 42)),
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


SIZED = [mode.partition(":")[0] for mode in MODES if ":" in mode]


def resize_of(mode, tw, th):
    return Resize(mode, tw, tw if mode.endswith("_edge") else th)


@given(mode=st.sampled_from(SIZED), w=EDGE, h=EDGE, tw=TARGET, th=TARGET)
def test_without_upscale_no_edge_grows(mode, w, h, tw, th):
    resize = resize_of(mode, tw, th)
    drawn_w, drawn_h = resize.scaled(w, h, upscale=False)
    assert 1 <= drawn_w <= w
    assert 1 <= drawn_h <= h


@given(mode=st.sampled_from(["long_edge", "fill"]), w=EDGE, h=EDGE, tw=TARGET, th=TARGET,
       upscale=st.booleans())  # fmt: skip
def test_what_fits_inside_never_exceeds_the_target(mode, w, h, tw, th, upscale):
    resize = resize_of(mode, tw, th)
    drawn_w, drawn_h = resize.scaled(w, h, upscale=upscale)
    scale = min(Fraction(resize.width, w), Fraction(resize.height, h))
    if scale >= 1 and not upscale:
        assert (drawn_w, drawn_h) == (w, h)
        return
    assert drawn_w == resize.width or drawn_h == resize.height
    assert drawn_w <= resize.width
    assert drawn_h <= resize.height
    assert drawn_w == 1 or abs(drawn_w - w * scale) <= Fraction(501, 1000)
    assert drawn_h == 1 or abs(drawn_h - h * scale) <= Fraction(501, 1000)


@given(w=EDGE, h=EDGE, tw=TARGET, th=TARGET)
def test_half_crop_lies_between_crop_and_fill_and_keeps_the_aspect(w, h, tw, th):
    drawn = {
        mode: Resize(mode, tw, th).scaled(w, h, upscale=True)
        for mode in ("fill", "half_crop", "crop")
    }
    for axis in (0, 1):
        assert drawn["fill"][axis] <= drawn["half_crop"][axis] <= drawn["crop"][axis]
    scale = 2 / (Fraction(w, tw) + Fraction(h, th))
    for edge, of in zip(drawn["half_crop"], (w, h), strict=True):
        assert edge == 1 or abs(edge - of * scale) <= Fraction(501, 1000)


@given(mode=st.sampled_from(["none", *SIZED]), w=EDGE, h=EDGE, tw=TARGET, th=TARGET,
       upscale=st.booleans())  # fmt: skip
def test_what_was_resized_once_fits(mode, w, h, tw, th, upscale):
    resize = resize_of(mode, tw, th)
    canvas = resize.place(w, h, upscale=upscale).canvas
    assert resize.place(*canvas, upscale=upscale).keeps(*canvas)


@given(mode=st.sampled_from(["none", *SIZED]), w=EDGE, h=EDGE, tw=TARGET, th=TARGET,
       upscale=st.booleans(), floor=st.booleans())  # fmt: skip
def test_a_placement_stays_within_the_image_and_the_canvas(mode, w, h, tw, th, upscale, floor):
    placement = resize_of(mode, tw, th).place(w, h, upscale=upscale, floor=floor)
    left, upper, right, lower = placement.box
    assert 0 <= left < right <= w
    assert 0 <= upper < lower <= h
    for offset, drawn, canvas in zip(
        placement.offset, placement.drawn, placement.canvas, strict=True
    ):
        assert drawn >= 1
        assert 0 <= (canvas - drawn - offset) - offset <= 1


@given(mode=st.sampled_from(["squash", "crop", "fill", "half_crop"]), w=EDGE, h=EDGE, tw=TARGET,
       th=TARGET)  # fmt: skip
def test_modes_with_two_edges_give_exactly_that_size_when_they_may_enlarge(mode, w, h, tw, th):
    assert Resize(mode, tw, th).place(w, h, upscale=True).canvas == (tw, th)


@given(w=EDGE, h=EDGE, tw=TARGET, th=TARGET)
def test_fill_gives_exactly_that_size_even_when_it_may_not_enlarge(w, h, tw, th):
    placement = Resize("fill", tw, th).place(w, h, upscale=False)
    assert placement.canvas == (tw, th)
    assert placement.box == (0, 0, w, h)


@pytest.mark.parametrize(
    ("size", "upscale", "placement"),
    [
        # Scaled by a third: 33 pixels of the width go, 33 of the height are padded.
        ((400, 200), False, Placement((48.12, 0, 348.87, 200), (100, 67), (100, 100), (0, 16))),
        ((50, 60), False, Placement((0, 0, 50, 60), (50, 60), (50, 60))),
        ((150, 40), False, Placement((25, 0, 125, 40), (100, 40), (100, 40))),
        ((150, 40), True, Placement((27.53, 0, 122.47, 40), (100, 42), (100, 100), (0, 29))),
        ((300, 300), False, Placement((0, 0, 300, 300), (100, 100), (100, 100))),
    ],
)
def test_half_crop_cuts_one_side_and_pads_the_other(size, upscale, placement):
    found = Resize("half_crop", 100, 100).place(*size, upscale=upscale)
    assert found.box == pytest.approx(placement.box, abs=0.01)
    assert (found.drawn, found.canvas, found.offset) == (
        placement.drawn, placement.canvas, placement.offset,
    )  # fmt: skip


@given(w=EDGE, h=EDGE, edge=TARGET)
def test_the_long_edge_can_be_rounded_down_as_im2rec_does(w, h, edge):
    drawn = Resize("short_edge", edge, edge).place(w, h, upscale=True, floor=True).drawn
    assert drawn == ((edge, h * edge // w) if h > w else (w * edge // h, edge))


@given(w=EDGE, h=EDGE, tw=TARGET, th=TARGET)
def test_a_crop_is_centred_within_the_drawn_image(w, h, tw, th):
    resize = Resize("crop", tw, th)
    drawn_w, drawn_h = resize.scaled(w, h, upscale=True)
    left, upper, right, lower = resize.kept(drawn_w, drawn_h)
    assert (right - left, lower - upper) == (tw, th)
    assert 0 <= (drawn_w - right) - left <= 1
    assert 0 <= (drawn_h - lower) - upper <= 1
