"""The mean image that Caffe subtracts: summed by segments, taken over all of them."""

import io
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from tests.unit.records.helpers import record

from imagenet_etl.errors import RecordError
from imagenet_etl.records.lmdb import MAX_MEAN_PIXELS, LmdbPartWriter, mean_files, mean_image


def pictures(count, height=5, width=4, seed=0):
    return list(
        np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    )


def sums_of(folder, groups):
    """Write a part of each group of images; return the files with their sums."""
    sums = []
    for number, images in enumerate(groups):
        with LmdbPartWriter(folder, f"p{number}") as writer:
            for position, image in enumerate(images):
                writer.write(record(position, pixels=image))
            sums.append(writer.commit()[2].path)
    return sums


@pytest.mark.parametrize("cuts", [(), (1,), (3, 3), (0, 7), (7,)])
def test_the_mean_is_numpys_mean_of_all_images(tmp_path, cuts):
    """Segments without a single image, whose images were all quarantined, change nothing."""
    images = pictures(7)
    bounds = [0, *cuts, 7]
    groups = [images[a:b] for a, b in pairwise(bounds)]
    mean = mean_image(sums_of(tmp_path, groups), 7)
    assert np.array_equal(mean, np.mean(images, axis=0))


def test_the_mean_of_many_bright_images_does_not_overflow(tmp_path):
    white = [np.full((2, 2, 3), 255, np.uint8)] * 4096
    mean = mean_image(sums_of(tmp_path, [white]) * 5000, 4096 * 5000)
    assert np.array_equal(mean, np.full((2, 2, 3), 255.0))


@pytest.mark.parametrize(
    "groups",
    [
        [[*pictures(2), *pictures(1, height=6)]],
        [pictures(2), pictures(2, width=5)],
        [pictures(2), [*pictures(1), *pictures(1, width=1), *pictures(3)]],
        [pictures(1), [None]],
        [[None, *pictures(2)]],
        [[]],
        [],
    ],
)
def test_images_of_several_sizes_or_none_have_no_mean(tmp_path, groups):
    assert mean_image(sums_of(tmp_path, groups), 3) is None


def test_huge_images_have_no_mean_and_take_no_memory(tmp_path):
    """A sum of 9,999 x 9,999 pixels would take 2.4 GB; these arrays take none at all."""
    edge = np.broadcast_to(np.zeros(3, np.uint8), (9999, 9999, 3))
    tracemalloc.start()
    sums = sums_of(tmp_path, [[edge, edge]])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mean_image(sums, 2) is None
    assert peak < 8 << 20


def test_the_largest_image_that_has_a_mean(tmp_path):
    image = np.broadcast_to(np.array([1, 2, 3], np.uint8), (1, MAX_MEAN_PIXELS, 3))
    mean = mean_image(sums_of(tmp_path, [[image, image]]), 2)
    assert mean.shape == (1, MAX_MEAN_PIXELS, 3)
    assert np.array_equal(mean[0, -1], [1, 2, 3])


@pytest.mark.parametrize("data", [b"x", b"\x93NUMPY", b"no numbers at all"])
def test_a_damaged_sum_is_named(tmp_path, data):
    sums = sums_of(tmp_path, [pictures(2)])
    sums[0].write_bytes(data)
    with pytest.raises(RecordError, match=r"p0\.sum\.npy is cut off or damaged"):
        mean_image(sums, 2)


def test_a_sum_that_was_cut_off_is_named(tmp_path):
    sums = sums_of(tmp_path, [pictures(2)])
    sums[0].write_bytes(sums[0].read_bytes()[:-8])
    with pytest.raises(RecordError, match="cut off or damaged"):
        mean_image(sums, 2)


def test_the_mean_is_there_for_people_too():
    red = np.broadcast_to(np.array([250.0, 10.0, 10.0]), (16, 16, 3))
    files = mean_files(red)
    assert set(files) == {"mean.binaryproto", "mean.jpg"}
    with Image.open(io.BytesIO(files["mean.jpg"])) as image:
        assert image.size == (16, 16)
        assert image.mode == "RGB"
        assert np.allclose(np.asarray(image).mean(axis=(0, 1)), [250, 10, 10], atol=4)
