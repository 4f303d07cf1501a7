import pytest

from lexiseg.methods.freeda.offline.nouns import AMBIGUOUS, Noun, Nouns
from lexiseg.methods.freeda.offline.recipe import read_words


def found(caption: str, *names: str) -> list[tuple[str, str]]:
    nouns = Nouns(names) if names else Nouns.bundled()
    return [(noun.name, noun.surface) for noun in nouns.find(caption)]


def test_words_are_found_in_singular_and_plural_each_once() -> None:
    caption = "Two Dogs and a dog near the BERRIES, three knives, boxes and a bus."
    names = ("dog", "berry", "knife", "box", "bus", "cat")
    assert found(caption, *names) == [
        *(("dog", "dogs"), ("berry", "berries"), ("knife", "knives"), ("box", "boxes")),
        ("bus", "bus"),
    ]


def test_the_longest_name_counts() -> None:
    names = ("light", "traffic light", "traffic light pole")
    assert found("a traffic light by the light", *names) == [
        *(("traffic light", "traffic light"), ("light", "light"))
    ]
    assert found("two traffic lights", *names) == [("traffic light", "traffic lights")]


def test_a_part_of_a_word_is_no_word() -> None:
    assert found("a caterpillar on a boatload of category", "cat", "boat") == []
    assert found("the dog's t-shirt", "dog", "t-shirt", "shirt") == [
        *(("dog", "dog"), ("t-shirt", "t-shirt"))
    ]


def test_the_bundled_list() -> None:
    nouns = Nouns.bundled()
    assert len(nouns) > 1000
    assert not AMBIGUOUS & set(nouns.names)
    caption = "A man can saw two pieces of wood beside a parked car"
    assert [noun.name for noun in nouns.find(caption)] == ["man", "wood", "car"]
    assert nouns.find("Nothing of it") == []


@pytest.mark.parametrize(
    ("names", "message"),
    [([], "is empty"), (["3 cats"], "letters and hyphens"), ([""], "an empty word")],
)
def test_a_list_that_is_none(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Nouns(names)


def test_a_file_of_words(tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# mine\nTractor\n\n traffic light \n", encoding="utf-8")
    assert read_words(path) == ("Tractor", "traffic light")
    assert Nouns(read_words(path)).find("a TRACTOR") == [Noun("tractor", "tractor")]
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="is empty"):
        read_words(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_words(tmp_path / "other.txt")
