"""The order of a split's records."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.config import SHUFFLES
from imagenet_etl.shuffle import SHUFFLE_BLOCK, WINDOW, positions_of


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


@pytest.mark.parametrize("segment", [WINDOW, 11_640, 700])
def test_a_worker_meets_nearly_every_block_whole(segment):
    records = 100 * WINDOW
    starts = list(range(0, records, segment))
    positions = positions_of(records, "blocks", 100, starts)
    window = positions // segment * 100 + positions % segment // WINDOW
    blocks = window.reshape(-1, SHUFFLE_BLOCK)
    reads = sum(len(np.unique(block)) for block in blocks) / len(blocks)
    windows = len(np.unique(window))
    assert reads <= 1 + windows / len(blocks), "each window cuts a block in two at most"


def test_blocks_scatter_the_records_of_a_class():
    positions = positions_of(100 * WINDOW, "blocks", 100)
    a_class = np.sort(positions[:1300])
    assert len(np.unique(a_class // WINDOW)) > 10
    assert np.diff(a_class).max() > WINDOW
    assert np.median(np.diff(a_class)) > 1, "and neighbours do not follow each other"
