import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.errors import ConfigError
from imagenet_etl.images.geometry import MAX_EDGE, MODES, Resize
from imagenet_etl.images.spec import ImageSpec, parse_image_spec

EDGE = st.integers(1, MAX_EDGE)
RESIZES = st.one_of(
    st.just(Resize("none")),
    st.builds(lambda mode, edge: Resize(mode, edge, edge),
              st.sampled_from(["short_edge", "long_edge"]), EDGE),
    st.builds(Resize, st.sampled_from(["squash", "crop", "fill", "half_crop"]), EDGE, EDGE),
)  # fmt: skip
SPECS = st.builds(
    ImageSpec,
    resize=RESIZES,
    upscale=st.booleans(),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["444", "422", "420"]),
    encoding=st.sampled_from(["jpeg", "png"]),
    center_crop=st.booleans(),
    im2rec_compat=st.booleans(),
    fill=st.from_regex(r"[0-9A-Fa-f]{6}", fullmatch=True),
)


@given(spec=SPECS, defaults=SPECS)
def test_the_canonical_text_gives_the_spec_back_whatever_the_defaults(spec, defaults):
    assert parse_image_spec(spec.canonical(), defaults) == spec
    assert parse_image_spec(spec.canonical()).canonical() == spec.canonical()


@given(one=SPECS, other=SPECS)
def test_the_canonical_text_tells_specs_apart(one, other):
    assert (one.canonical() == other.canonical()) == (one == other)


def test_the_canonical_text_stays_as_it_is_because_digests_hold_it():
    assert ImageSpec().canonical() == (
        "none:q90:420:jpeg:no_upscale:no_center_crop:no_im2rec_compat:fill=000000"
    )
    spec = ImageSpec(Resize("fill", 64, 32), True, 7, "444", "png", True, True, "FFaa01")
    assert spec.canonical() == "fill:64x32:q7:444:png:upscale:center_crop:im2rec_compat:fill=ffaa01"
    assert ImageSpec(Resize("long_edge", 9, 9)).canonical().startswith("long_edge:9:q90:")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("", ImageSpec()),
        ("none", ImageSpec()),
        ("squash:224x224:q85", ImageSpec(Resize("squash", 224, 224), quality=85)),
        ("short_edge:480", ImageSpec(Resize("short_edge", 480, 480))),
        ("q85:444", ImageSpec(quality=85, subsampling="444")),
        ("png:upscale:center_crop",
         ImageSpec(encoding="png", upscale=True, center_crop=True)),
        ("im2rec_compat", ImageSpec(im2rec_compat=True)),
        ("half_crop:9x8:fill=C0FFEE", ImageSpec(Resize("half_crop", 9, 8), fill="c0ffee")),
    ],
)  # fmt: skip
def test_what_people_write_is_understood(text, spec):
    assert parse_image_spec(text) == spec


def test_what_is_not_said_comes_from_the_defaults():
    defaults = ImageSpec(Resize("crop", 9, 9), True, 50, "444", "png", True, True, "112233")
    assert parse_image_spec("", defaults) == defaults
    told = "none:no_upscale:q90:420:jpeg:no_center_crop:no_im2rec_compat:fill=000000"
    assert parse_image_spec(told, defaults) == ImageSpec()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("squash", "squash"), ("squash:224", "squash:224"), ("crop:0x9", "crop:0x9"),
        ("short_edge:q90", "short_edge:q90"), ("q90:short_edge:9", "short_edge"),
        ("none:9", "9"), ("q0", "q0"), ("q101", "q101"), ("q", "q"), ("q90.5", "q90.5"),
        ("440", "440"), ("gif", "gif"), ("fill=fff", "fill=fff"), ("fill=gggggg", "fill=gggggg"),
        ("q90:", ""), (":", ""), ("squash:224x224:", ""), ("none:", ""), ("squash:9x9::q90", ""),
        (":q90", ""), ("q90 ", "q90 "), ("PNG", "PNG"), ("fill:8x8:fill:8x8", "fill"),
        ("q90\n", "q90\\n"),
    ],
)  # fmt: skip
def test_a_wrong_part_is_named_with_what_is_allowed(text, part):
    with pytest.raises(ConfigError) as caught:
        parse_image_spec(text)
    assert f"'{part}'" in str(caught.value).replace("\\\\", "\\")
    assert caught.value.expected


def test_an_unknown_part_brings_the_whole_grammar():
    with pytest.raises(ConfigError) as caught:
        parse_image_spec("stretch:64x64")
    for known in (*MODES, "qN", "420", "png", "center_crop", "im2rec_compat", "fill=RRGGBB"):
        assert known in str(caught.value)


@pytest.mark.parametrize(
    "text", ["q90:q90", "444:420", "png:jpeg", "upscale:no_upscale", "fill=000000:fill=ffffff"]
)
def test_nothing_is_said_twice(text):
    with pytest.raises(ConfigError, match="once"):
        parse_image_spec(text)


@pytest.mark.parametrize(
    "values",
    [
        {"quality": 0}, {"quality": 101}, {"subsampling": "411"}, {"encoding": "jpg"},
        {"fill": "red"}, {"fill": "000000\n"},
    ],
)  # fmt: skip
def test_values_out_of_bounds_are_refused(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        ImageSpec(**values)


def test_the_suffix_follows_the_encoding():
    assert [ImageSpec(encoding=kind).suffix for kind in ("jpeg", "png")] == [".jpg", ".png"]


@given(spec=SPECS, w=st.integers(1, 3000), h=st.integers(1, 3000))
def test_a_fixed_size_is_what_every_image_comes_out_with(spec, w, h):
    if spec.fixed_size is not None:
        assert spec.place(w, h).canvas == spec.fixed_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("none:upscale", None), ("short_edge:9:upscale", None), ("long_edge:9:upscale", None),
        ("fill:9x8", (9, 8)), ("squash:9x8", None), ("squash:9x8:upscale", (9, 8)),
        ("crop:9x8", None), ("crop:9x8:upscale", (9, 8)), ("half_crop:9x8", None),
        ("half_crop:9x8:upscale", (9, 8)), ("squash:9x8:im2rec_compat", (9, 8)),
    ],
)  # fmt: skip
def test_which_sizes_are_fixed(text, size):
    assert parse_image_spec(text).fixed_size == size


@given(w=st.integers(1, 5000), h=st.integers(1, 5000), edge=st.integers(1, 600))
def test_center_crop_takes_the_middle_square_before_the_resize(w, h, edge):
    spec = parse_image_spec(f"short_edge:{edge}:center_crop:im2rec_compat")
    placement = spec.place(w, h)
    side = min(w, h)
    x, y = (w - side) // 2, (h - side) // 2
    assert placement.box == (x, y, x + side, y + side)
    assert placement.drawn == placement.canvas == (edge, edge)
