import pytest
import torch

from lexiseg.methods.freeda.offline.attribution import pool_mask
from lexiseg.methods.freeda.offline.collection import CollectionSettings, Collector
from lexiseg.methods.freeda.offline.diffusion import Diffusion
from lexiseg.methods.freeda.offline.nouns import Nouns
from lexiseg.methods.freeda.offline.tasks import Outcome, Task, make_tasks
from tests.methods.freeda.offline.painted import Painted, collector
from tests.methods.freeda.offline.tiny_diffusion import tiny_pipeline
from tests.methods.freeda.offline.tiny_encoders import tiny_pair

TASK = Task(3, "A red dog and cats", 17)


def test_a_word_gets_the_mean_of_its_pixels_and_a_record() -> None:
    outcome = collector()(TASK)
    assert outcome.words == ("dog", "cat")
    colours = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    torch.testing.assert_close(outcome.prototypes.float(), colours, atol=0.02, rtol=0)
    record = outcome.records()[1]
    assert (record.word, record.caption, record.seed, record.source) == (
        *("cat", TASK.caption, 17, "painted"),
    )
    assert outcome.image is None


def test_a_caption_without_a_word_makes_no_image() -> None:
    made = collector(diffusion=Painted(broken=True))(Task(0, "Nothing of the list", 1))
    assert (made.words, len(made.keys)) == ((), 0)
    assert made.left_out == (("", "no word of the list is in the caption"),)


def test_words_are_left_out_with_a_reason() -> None:
    flagged = collector(diffusion=Painted(flagged=True))(TASK)
    assert {why for _, why in flagged.left_out} == {"the safety checker refused the image"}
    cut = collector()(Task(0, "A red dog and cats and a bird", 1))
    assert cut.left_out == (("bird", "the caption is too long for the diffusion model"),)
    blank = collector(diffusion=Painted(blank=True))(TASK)
    assert {why for _, why in blank.left_out} == {"its mask covers less than a patch"}


def test_an_outcome_survives_packing_and_damage_is_found() -> None:
    outcome = collector(settings=CollectionSettings(keep_images=True))(TASK)
    data = outcome.pack()
    again = Outcome.unpack(data)
    assert (again.task, again.words, again.left_out) == (TASK, outcome.words, outcome.left_out)
    assert torch.equal(again.keys, outcome.keys)
    assert torch.equal(again.prototypes, outcome.prototypes)
    assert again.pack() == data
    assert outcome.png().startswith(b"\x89PNG")
    for damaged in (b"", data[:40], data[:-1], b"x" * 64):
        with pytest.raises(ValueError, match="outcome of a caption is damaged"):
            Outcome.unpack(damaged)


def test_shards_are_runs_of_the_captions_with_the_same_seeds() -> None:
    captions = [f"dog {'x' * number}" for number in range(10)]
    whole = make_tasks(captions, seed=1)
    parts = [make_tasks(captions, seed=1, shard=(number, 3)) for number in (1, 2, 3)]
    assert [len(part) for part in parts] == [3, 3, 4]
    assert [task for part in parts for task in part] == whole
    assert len({task.seed for task in whole}) == 10
    assert whole[0].seed != make_tasks(captions, seed=2)[0].seed
    twice = make_tasks(["dog", "dog"], seed=1)
    assert twice[0].seed != twice[1].seed


@pytest.mark.parametrize(
    ("captions", "shard", "message"),
    [
        (["dog"], (0, 2), "shard 0/2; it is from 1/2 to 2/2"),
        (["dog", " "], (1, 1), "caption 2 has 1 characters"),
        (["x" * 3000], (1, 1), "at most 2000"),
        (["a\x00b"], (1, 1), "control characters"),
    ],
)
def test_captions_that_cannot_be(captions, shard, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_tasks(captions, seed=0, shard=shard)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"threshold": 1.0}, "threshold 1.0"), ({"threshold": -0.5}, "threshold -0.5")],
)
def test_settings_that_cannot_be(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CollectionSettings(**settings)


def test_identity_holds_all_that_decides() -> None:
    plain = collector().identity()
    assert collector().identity() == plain
    others = [
        collector(nouns=Nouns(["dog"])),
        collector(settings=CollectionSettings(threshold=0.5)),
        collector(settings=CollectionSettings(key="template")),
    ]
    assert all(other.identity() != plain for other in others)
    assert collector(settings=CollectionSettings(keep_images=True)).identity() == plain


def test_the_real_pipeline_end_to_end() -> None:
    made = Collector(
        diffusion=Diffusion(tiny_pipeline(), name="tiny", steps=2),
        encoder=tiny_pair(),
        nouns=Nouns.bundled(),
        settings=CollectionSettings(keep_images=True),
    )
    task = Task(0, "Two men ride a motorbike past a traffic light.", 5)
    outcome = made(task)
    assert outcome.words == ("man", "motorbike", "traffic light")
    assert outcome.keys.shape == (3, 24)
    assert outcome.prototypes.shape == (3, 64)
    assert made(task).pack() == outcome.pack()
    features = made.encoder.image_features(outcome.image)
    whole, _ = pool_mask(features, torch.ones(32, 32, dtype=torch.bool))
    assert (outcome.prototypes[0].float() - whole).abs().max() > 1e-3
