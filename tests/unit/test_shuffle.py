"""The order of a split's records."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.config import SEGMENT_RECORDS, SHUFFLES
from imagenet_etl.shuffle import SHUFFLE_BLOCK, positions_of


@given(records=st.integers(0, 20_000), how=st.sampled_from(SHUFFLES), seed=st.integers(0, 9))
def test_every_record_has_a_position_of_its_own(records, how, seed):
    assert sorted(positions_of(records, how, seed).tolist()) == list(range(records))


def test_global_is_the_order_of_im2rec():
    order = list(range(1000))
    random.Random(100).shuffle(order)
    positions = positions_of(1000, "global", 100)
    assert [int(positions[key]) for key in order] == list(range(1000))


def test_none_keeps_the_order_of_classes_and_names():
    assert positions_of(99, "none", 100).tolist() == list(range(99))


@pytest.mark.parametrize("how", ["global", "blocks"])
def test_the_seed_alone_decides(how):
    one, same, other = (positions_of(9000, how, seed).tolist() for seed in (1, 1, 2))
    assert one == same != other


def test_a_block_of_neighbours_lands_in_one_window():
    positions = positions_of(100 * SEGMENT_RECORDS, "blocks", 100)
    windows = (positions // SEGMENT_RECORDS).reshape(-1, SHUFFLE_BLOCK)
    assert (windows == windows[:, :1]).all()


def test_blocks_scatter_the_records_of_a_class():
    positions = positions_of(100 * SEGMENT_RECORDS, "blocks", 100)
    a_class = np.sort(positions[:1300])
    assert len(np.unique(a_class // SEGMENT_RECORDS)) > 10
    assert np.diff(a_class).max() > SEGMENT_RECORDS
    assert np.median(np.diff(a_class)) > 1, "and neighbours do not follow each other"
