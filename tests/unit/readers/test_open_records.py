import pytest

from imagenet_etl.errors import ConfigError
from imagenet_etl.readers import open_records


@pytest.fixture
def train(pack):
    """A folder of three shards, packed out of order, with keys 0 to 5."""
    for shard in (2, 0, 1):
        path = pack(f"train_{shard:05d}", [(2 * shard + n, b"image") for n in range(2)])
    return path.parent


def keys(records):
    return [record.key for record in records]


def test_a_folder_gives_all_its_shards_in_order_of_their_names(train):
    assert keys(open_records(train)) == [0, 1, 2, 3, 4, 5]


def test_a_pattern_gives_the_files_that_match(train):
    assert keys(open_records(train / "train_0000[12].rec")) == [2, 3, 4, 5]


def test_a_pattern_never_takes_an_index_for_records(train):
    assert keys(open_records(f"{train}/train_00001.*")) == [2, 3]


def test_a_single_file_is_enough(train):
    assert keys(open_records(str(train / "train_00002.rec"))) == [4, 5]


def test_a_name_with_pattern_characters_is_a_name_when_it_is_there(train):
    for suffix in (".rec", ".idx"):
        (train / f"train_00001{suffix}").rename(train / f"train[1]{suffix}")
    assert keys(open_records(train / "train[1].rec")) == [2, 3]


@pytest.mark.parametrize("place", ["", "gone", "*.rec", "notes.txt"])
def test_a_place_without_records_is_refused_by_name(tmp_path, place):
    (tmp_path / "notes.txt").write_text("no records")
    with pytest.raises(ConfigError, match=r"no records at .*folder with \.rec files"):
        open_records(tmp_path / place)
