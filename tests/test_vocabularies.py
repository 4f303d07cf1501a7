"""The bundled templates, and the choice of them; test_class_lists.py has the lists."""

import pytest

from lexiseg.prompts import LabelSet, build_prompts
from lexiseg.vocabularies import chosen_templates, read_list, template_names, template_set


@pytest.mark.parametrize("name", template_names())
def test_template_sets(name: str) -> None:
    prompts = build_prompts(LabelSet.of("dog"), template_set(name))
    assert all("dog" in prompt and "{" not in prompt for prompt in prompts[0])


def test_the_imagenet_ensemble_has_80_sentences_and_its_selection_is_of_clips_authors() -> None:
    assert len(set(template_set("imagenet"))) == 80
    assert len(template_set("imagenet_select")) == 7
    with pytest.raises(ValueError, match="did you mean 'imagenet'"):
        template_set("imagnet")


def test_which_templates_are_meant() -> None:
    assert chosen_templates(None, ["a {}"]) == ("a {}",)
    assert chosen_templates("the {}", ["a {}"]) == ("the {}",)
    assert chosen_templates(["the {}", "{}"], ["a {}"]) == ("the {}", "{}")
    assert chosen_templates("clip", ["a {}"]) == template_set("clip")
    with pytest.raises(ValueError, match="unknown templates 'clop'; did you mean 'clip'"):
        chosen_templates("clop", ["a {}"])


def test_a_list_is_read_by_its_usual_names() -> None:
    assert read_list("context59") == read_list("pc59")
    with pytest.raises(ValueError, match="unknown class list 'voc21'; did you mean 'voc20'"):
        read_list("voc21")
