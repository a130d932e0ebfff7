"""Many questions at once give the answers of one after the other."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.storages import KINDS, describe_new, opened

from imagenet_etl.storage import many
from imagenet_etl.storage.many import each, stats_of

pytestmark = pytest.mark.usefixtures("temporary_folder")


@pytest.fixture(params=KINDS)
def description(request, tmp_path, moto):
    return describe_new(request.param, tmp_path, moto)


@pytest.fixture
def filled(storage):
    for name in ("top", *(f"many/{n}" for n in range(12)), "few/a", "few/b", "many/below/it"):
        storage.put(name, name.encode())
    return storage


NAMES = ["top", "no", "few/a", "few/none", "many/below/it", "many/none",
         *(f"many/{n}" for n in range(12))]  # fmt: skip


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(NAMES), unique=True))
def test_stats_are_those_of_each_key_alone(filled, names):
    alone = {name: filled.stat(name) for name in names}
    assert stats_of(filled, names) == {name: stat for name, stat in alone.items() if stat}


def test_little_is_listed_of_a_folder_with_much_below_it(tmp_path, moto, monkeypatch):
    monkeypatch.setattr(many, "_PAGE", 20)
    with opened(describe_new("bucket", tmp_path, moto)) as storage:
        for name in ("a", "z", *(f"m/{n:02}" for n in range(40)), *(f"b{n}" for n in range(8))):
            storage.put(name, b"")
        listed, listing = [], storage.list
        monkeypatch.setattr(
            storage,
            "list",
            lambda folder: (listed.append(item) or item for item in listing(folder)),
        )
        wanted = ["a", "none", "z", *(f"b{n}" for n in range(8))]
        assert set(many.stats_of(storage, wanted)) == set(wanted) - {"none"}
        assert len(listed) < 30


def test_answers_come_in_the_order_of_the_questions(filled):
    names = [f"many/{n}" for n in range(11, -1, -1)]
    assert list(each(filled, filled.read, names)) == [name.encode() for name in names]
    assert list(each(filled, filled.read, [])) == []


def test_the_first_trouble_is_raised(filled):
    def refuse(name):
        raise ValueError(name)

    with pytest.raises(ValueError, match="a"):
        list(each(filled, refuse, ["a", "b"]))
