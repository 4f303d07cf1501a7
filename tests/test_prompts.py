import pytest

from lexiseg.prompts import Background, LabelSet, build_prompts, parse_labels, standard_list
from lexiseg.vocabularies import list_names


@pytest.mark.parametrize(
    "labels",
    [
        "dog, grass, sofa|couch",
        " dog ,grass,sofa | couch",
        ["dog", "grass", "sofa|couch"],
        ("dog", "grass", "sofa|couch"),
        {"dog": "dog", "grass": ["grass"], "sofa": ["sofa", "couch"]},
        {"dog": ["dog"], "grass": ["grass"], "sofa": "sofa|couch"},
        LabelSet(("dog", "grass", "sofa"), (("dog",), ("grass",), ("sofa", "couch"))),
    ],
)
def test_all_ways_to_say_the_same(labels: object) -> None:
    result = LabelSet.of(labels)
    assert result.labels == ("dog", "grass", "sofa")
    assert result.names == (("dog",), ("grass",), ("sofa", "couch"))
    assert len(result) == 3


def test_names_are_tidied() -> None:
    assert parse_labels("e\u0301clair,  traffic   light ").labels == ("éclair", "traffic light")
    assert LabelSet.of({"seat": ["sofa", "couch"]}).names == (("sofa", "couch"),)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labels came"),
        ("", "no labels came"),
        ({}, "no labels came"),
        ("dog,", "an empty label"),
        ("dog||cat", "an empty label"),
        (["dog", " "], "an empty label"),
        ({"dog": []}, "has no names"),
        ("dog, Dog", "'Dog' came twice"),
        ("STRASSE, straße", "came twice"),
        ("sofa|couch, Couch", "'Couch' came twice"),
        ({"a": ["sofa"], "b": ["SOFA"]}, "came twice"),
        ({"dog": ["x"], "DOG": ["y"]}, "came twice"),
        (["x" * 257], "257 characters; at most 256"),
        (["do\ng"], "control characters"),
        (["do\0g"], "control characters"),
        (["do\ud800g"], "control characters"),
        ("voc21", "unknown class list 'voc21'; did you mean 'voc20'"),
        ("coco", "did you mean 'coco80'"),
    ],
)
def test_bad_labels(labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSet.of(labels)


def test_the_longest_name_goes() -> None:
    assert LabelSet.of(["x" * 256]).labels == ("x" * 256,)


def test_labels_of_a_wrong_type() -> None:
    with pytest.raises(TypeError, match="a label came as int"):
        LabelSet.of({"a": [3]})


def test_odd_names_are_kept() -> None:
    odd = ["猫", "قطة", "a {} b", "<img onerror>", "../x", "🐈", "100%"]
    assert LabelSet.of(odd).labels == tuple(odd)


@pytest.mark.parametrize(("name", "count"), [("voc20", 20), ("coco80", 80), ("msrc21", 21)])
def test_standard_lists(name: str, count: int) -> None:
    assert len(LabelSet.of(name)) == count
    assert standard_list(name).labels[0] == LabelSet.of(name.upper()).labels[0]


@pytest.mark.parametrize("name", list_names())
def test_every_bundled_list_passes_the_checks(name: str) -> None:
    assert len(standard_list(name)) > 1


def test_unknown_list() -> None:
    with pytest.raises(ValueError, match="did you mean 'voc20'"):
        standard_list("voc2")


def test_prompts_hold_every_name_in_every_template() -> None:
    labels = LabelSet.of("dog, sofa|a {} couch")
    assert build_prompts(labels, ["{}", "a {}."]) == [
        ["dog", "a dog."],
        ["sofa", "a sofa.", "a {} couch", "a a {} couch."],
    ]


@pytest.mark.parametrize("template", ["no place", "{} and {}", ""])
def test_bad_templates(template: str) -> None:
    with pytest.raises(ValueError, match="must hold {} once"):
        build_prompts(LabelSet.of("dog"), [template])


def test_no_templates() -> None:
    with pytest.raises(ValueError, match="no templates came"):
        build_prompts(LabelSet.of("dog"), [])


def test_first_names() -> None:
    labels = LabelSet.of("sofa|couch, dog").first_names()
    assert labels.names == (("sofa",), ("dog",))
    assert labels.labels == ("sofa", "dog")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (None, Background()),
        ("off", Background()),
        (0.3, Background(threshold=0.3)),
        (1, Background(threshold=1.0)),
        ("0.3", Background(threshold=0.3)),
        ("wall", Background(names=("wall",))),
        ("wall|floor", Background(names=("wall", "floor"))),
        ("wall, floor", Background(names=("wall", "floor"))),
        (["wall", "floor"], Background(names=("wall", "floor"))),
        (Background(names=("wall",)), Background(names=("wall",))),
    ],
)
def test_background_modes(mode: object, expected: Background) -> None:
    assert Background.of(mode) == expected


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (1.5, "must lie from 0 to 1"),
        ("-1", "must lie from 0 to 1"),
        ("nan", "must lie from 0 to 1"),
        (True, "must lie from 0 to 1"),
        ([], "no background names"),
        ("", "an empty label"),
        ("wall,", "an empty label"),
    ],
)
def test_bad_backgrounds(mode: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Background.of(mode)


def test_background_names_come_after_the_labels() -> None:
    joined = Background.of("wall|floor").join(LabelSet.of("dog, sofa|couch"))
    assert joined.labels == ("dog", "sofa", "wall", "floor")
    assert joined.names == (("dog",), ("sofa", "couch"), ("wall",), ("floor",))
    with pytest.raises(ValueError, match="'Couch' is a label and a background name"):
        Background.of("Couch").join(LabelSet.of("dog, sofa|couch"))


def test_a_threshold_in_another_notation_is_refused() -> None:
    assert Background.of("OFF") == Background()
    for text in ("50%", "0,5", ".5.5"):
        with pytest.raises(ValueError, match="with a point, such as 0.3"):
            Background.of(text)
