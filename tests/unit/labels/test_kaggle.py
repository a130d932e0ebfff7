import pytest

from imagenet_etl.errors import LabelError
from imagenet_etl.labels.kaggle import parse_synset_mapping, parse_val_solution

HEADER = "ImageId,PredictionString\n"
LINES = [
    "ILSVRC2012_val_00048981,n03995372 85 1 499 272 \n",
    "ILSVRC2012_val_00000002,n02510455 0 0 9 9 n02510455 -1 2 3 4\n",
]
LABELS = {
    "ILSVRC2012_val_00048981.JPEG": "n03995372",
    "ILSVRC2012_val_00000002.JPEG": "n02510455",
}
MAPPING = "n01440764 tench, Tinca tinca\nn02510455 giant panda, panda, coon bear\n"
NAMES = {"n01440764": "tench, Tinca tinca", "n02510455": "giant panda, panda, coon bear"}


def refusal(parse, text):
    with pytest.raises(LabelError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.isprintable(), "an error is one line of the log"
    assert caught.value.remedy
    return message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_class_of_each_validation_image_is_that_of_its_objects(end):
    text = (HEADER + "".join(LINES)).replace("\n", end)
    assert parse_val_solution(text) == LABELS
    assert parse_val_solution(text.removesuffix(end)) == LABELS


def test_a_solution_of_no_images_has_no_labels():
    assert parse_val_solution(HEADER) == {}


@pytest.mark.parametrize("text", ["", "\n", "".join(LINES), "\ufeff" + HEADER, "<html>\n"])
def test_another_header_is_refused(text):
    message = refusal(parse_val_solution, text)
    assert "LOC_val_solution.csv line 1: expected ImageId,PredictionString" in message


@pytest.mark.parametrize("line", [
    "", "dog,n02510455 0 0 9 9", "ILSVRC2012_val_1,n02510455 0 0 9 9", LINES[0].strip(),
    "ILSVRC2012_test_00000001,n02510455 0 0 9 9", "../ILSVRC2012_val_00000001,n02510455 0 0 9 9",
    "\x1b[31m,n02510455 0 0 9 9",
])  # fmt: skip
def test_a_strange_or_repeated_image_is_named_by_its_line(line):
    message = refusal(parse_val_solution, HEADER + "".join(LINES) + line + "\n")
    assert "LOC_val_solution.csv line 4: expected a new image of ILSVRC2012_val" in message


@pytest.mark.parametrize("objects", [
    "", " ", "n02510455", "n02510455 0 0 9", "n02510455 0 0 9 9 n02510455", "dog 0 0 9 9",
    "n02510455 0 0 9 x", "n02510455 0 0 9 9.5", "n02510455 0 0 9 9 n01440764 0 0 9 9",
    "n02510455 0 0 9 9 n02510455 0 0 9 9 9", "n02510455,0,0,9,9",
])  # fmt: skip
def test_objects_that_do_not_tell_one_class_are_named_by_their_line(objects):
    text = f"{HEADER}{LINES[0]}ILSVRC2012_val_00000003,{objects}\n"
    assert "line 3: expected a wnid and four whole numbers" in refusal(parse_val_solution, text)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_names_stand_behind_the_wnid(end):
    assert parse_synset_mapping(MAPPING.replace("\n", end)) == NAMES


@pytest.mark.parametrize(
    "line", ["", "n01440764 again", "n1 short", "n01440765", "n01440765 ", "n01440765\ttab",
             "n01440765 \x1b[31m", "dog n01440765"],
)  # fmt: skip
def test_a_bad_line_of_the_mapping_is_named(line):
    message = refusal(parse_synset_mapping, f"{MAPPING}{line}\n")
    assert "LOC_synset_mapping.txt line 3: expected a new wnid, a space and its names" in message
