import torch

from lexiseg.data.mixture import TrainingSample
from lexiseg.methods.catseg import set_finetuning
from lexiseg.training.dense import DenseObjective
from lexiseg.training.losses import masked_bce, published_bce
from lexiseg.training.run import Batch
from tests.methods import contract

PROMPTS = [["a cat"], ["a dog", "a hound"]]


def samples(ignore_index=255):
    """Two pictures, one of which is nearly all ignored."""
    torch.manual_seed(3)
    many = torch.randint(0, 2, (40, 40))
    few = torch.full((40, 40), ignore_index)
    few[:2] = 1
    images = torch.randn(2, 3, 32, 32)
    return [
        TrainingSample(image, labels, ("cat", "dog"), ignore_index=ignore_index)
        for image, labels in zip(images, (many, few), strict=True)
    ]


def objective(mode, loss="masked", name="catseg_vitb16"):
    model = contract.make(name)
    set_finetuning(model, mode)
    return DenseObjective(model, PROMPTS, loss=loss).train()


def logits_of(made, batch):
    return made.model(torch.stack([s.image for s in batch]), made.model.encode_texts(PROMPTS))


def test_every_picture_counts_alike():
    made, batch = objective("freeze"), samples()
    whole = made(Batch(batch))["bce"]
    parts = [made(Batch([sample]))["bce"] for sample in batch]
    torch.testing.assert_close(whole, torch.stack(parts).mean())
    logits = logits_of(made, batch)
    expected = [masked_bce(logits[i : i + 1], batch[i].label_map[None]) for i in range(2)]
    torch.testing.assert_close(whole, torch.stack(expected).mean())
    together = masked_bce(logits, torch.stack([s.label_map for s in batch]))
    assert (together - whole).abs() > 1e-4  # per pixel, which is not what is wanted


def test_the_published_loss_is_the_mean_over_all_pixels():
    made, batch = objective("freeze", "published"), samples()
    labels = torch.stack([s.label_map for s in batch])
    expected = published_bce(logits_of(made, batch), labels)
    torch.testing.assert_close(made(Batch(batch))["bce"], expected)


def test_label_maps_of_16_bits_ignore_their_own_id():
    made = objective("freeze")
    narrow, wide = made(Batch(samples()))["bce"], made(Batch(samples(65535)))["bce"]
    assert torch.equal(narrow, wide)


def test_texts_are_encoded_at_every_step_only_where_that_trains_something():
    frozen, tuned = objective("freeze"), objective("attention")
    batch = Batch(samples())
    for made in (frozen, tuned):
        made(batch)["bce"].backward()
    tower = "encoder.text.blocks.0.attention.q_proj_weight"
    assert dict(tuned.model.named_parameters())[tower].grad.abs().sum() > 0
    assert not frozen.text_features.requires_grad
    assert "text_features" not in frozen.state_dict()
    before = frozen(batch)["bce"], tuned(batch)["bce"]
    with torch.no_grad():
        for made in (frozen, tuned):
            made.model.encoder.text.projection.mul_(-1)
    assert frozen(batch)["bce"] == before[0]
    assert tuned(batch)["bce"] != before[1]


def test_a_frozen_encoder_stays_in_evaluation_mode():
    frozen, tuned = (objective(mode, name="catseg_lite") for mode in ("freeze", "full"))
    assert not any(part.training for part in frozen.model.encoder.modules())
    assert frozen.model.decoder.training
    assert all(part.training for part in tuned.model.encoder.modules())
    assert not frozen.eval().model.decoder.training
