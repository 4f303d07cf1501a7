from dataclasses import replace

import pytest
import torch

from lexiseg.data.mixture import Taught
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.minilm import MiniLM, MiniLMConfig
from lexiseg.training.head_objective import HeadObjective
from lexiseg.training.lite_objective import LiteObjective
from lexiseg.training.run import Batch
from tests.training.pictures import NAMES, Linear, label_map, rainbow, sample


@pytest.mark.parametrize("sizes", [(64, 64), (64, 96)])
@pytest.mark.parametrize("kind", ["head", "encoder"])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(kind, sizes):
    torch.manual_seed(0)
    small, large = sizes
    if kind == "head":
        objective = HeadObjective(Linear(), rainbow, NAMES)
    else:  # eval: batch norms must not mix the samples
        encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
        objective = LiteObjective(encoder, NAMES, (["dog", "sky"], torch.randn(2, 8))).eval()
    samples = [
        sample(label_map(1, 2, size=small)),
        sample(label_map(size=large), image_label=3),
        sample(label_map(size=large)),
        sample(label_map(0, size=small)),
    ]
    with torch.no_grad():
        whole = objective(Batch(samples, step=1))
        parts = [objective(Batch(samples[i : i + 2], step=1)) for i in (0, 2)]
    for name, loss in whole.items():
        torch.testing.assert_close(loss, (parts[0][name] + parts[1][name]) / 2)


def test_the_names_that_are_compared_change_with_the_step():
    torch.manual_seed(0)
    encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
    teacher = ([f"thing {i}" for i in range(6)], torch.randn(6, 8))
    objective = LiteObjective(encoder, NAMES, teacher, likeness_names=2).eval()
    samples = [sample(label_map(1, size=64))]
    with torch.no_grad():
        found = [float(objective(Batch(samples, step=s))["likeness"]) for s in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_the_encoder_learns_one_batch():
    torch.manual_seed(0)
    encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
    encoder.text.requires_grad_(False)
    teacher = (["dog", "sky", "car"], torch.randn(3, 8))
    objective = LiteObjective(encoder, NAMES, teacher).train()
    batch = Batch([sample(label_map(1, 2, size=64)), sample(label_map(size=64), image_label=3)])
    optimizer = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), lr=3e-3)
    totals = []
    for _ in range(8):
        losses = objective(batch)
        assert set(losses) == {"likeness", "dense", "overlap", "image", "teacher"}
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.6 * totals[0]


def test_the_encoder_learns_what_a_teacher_sees():
    torch.manual_seed(0)
    encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
    encoder.text.requires_grad_(False)
    objective = LiteObjective(encoder, [*NAMES, "cat"], (["dog", "sky"], torch.randn(2, 8))).train()
    seen = torch.zeros(64, 64, dtype=torch.long)
    seen[:, 32:] = 1
    unlabelled = sample(label_map(size=64))
    shown = replace(unlabelled, taught=(Taught(seen, ("cat", NAMES[0])),))
    unsure = replace(shown, taught=(Taught(torch.full((64, 64), IGNORE_INDEX), ("cat", NAMES[0])),))
    assert objective(Batch([unsure]))["teacher"] == 0
    optimizer = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), lr=3e-3)
    losses = []
    for _ in range(8):
        losses.append(objective(Batch([shown]))["teacher"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
