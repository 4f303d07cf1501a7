"""Pseudo prompts are what makes an ESC-block find whole objects, shown on made shapes.

Each picture has two of four classes as rectangles. A class's correlation map is high on a small
part of its rectangle only; the cells of a rectangle share a random appearance that the image
features hold. To find the rest, a model has to carry the prompt to the cells that look alike.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.methods.escnet.blocks import ESCBlock, SAMBlock
from lexiseg.methods.escnet.fusion import VisionLanguageFusion

GRID, CLASSES, WIDTH = 12, 4, 32
APPEARANCE = 0.3  # of noise 0.5: one cell alone says little about the object
STEPS, BATCH = 400, 8


def pictures(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Image features, correlation maps and masks."""
    image = torch.randn(count, WIDTH, GRID, GRID, generator=generator)
    image *= 0.5
    correlation = 0.1 + 0.02 * torch.randn(count, CLASSES, GRID, GRID, generator=generator)
    masks = torch.zeros(count, CLASSES, GRID, GRID)
    background = torch.randn(count, WIDTH, 1, 1, generator=generator)
    owner = torch.full((count, GRID, GRID), -1)
    appearance = APPEARANCE * torch.randn(count, CLASSES, WIDTH, generator=generator)
    for index in range(count):
        for label in torch.randperm(CLASSES, generator=generator)[:2].tolist():
            sides = torch.randint(4, 9, (2,), generator=generator)
            top, left = (torch.rand(2, generator=generator) * (GRID + 1 - sides)).long().tolist()
            height, width = sides.tolist()
            owner[index, top : top + height, left : left + width] = label
            part = (torch.rand(2, generator=generator) * (sides - 1)).long()
            y, x = top + int(part[0]), left + int(part[1])
            correlation[index, label, y : y + 2, x : x + 2] += 0.2
    for label in range(CLASSES):
        masks[:, label] = (owner == label).float()
        image += masks[:, label, None] * appearance[:, label, :, None, None]
    image += (owner < 0)[:, None] * background
    return image, correlation, masks


class Toy(nn.Module):
    def __init__(self, *, prompted: bool) -> None:
        super().__init__()
        self.prompted = prompted
        self.block = ESCBlock(
            sam=SAMBlock(dim=WIDTH, heads=4, hidden=64),
            fusion=VisionLanguageFusion(
                dim=WIDTH, text_dim=8, hidden=16, heads=2, window=4, stride=1, last=True
            ),
            dim=WIDTH,
            clusters=3,
            ratio=1.06,
            stride=1,
        )
        self.head = nn.Linear(16, 1)
        self.register_buffer("texts", torch.randn(CLASSES, 8))

    def forward(self, image: Tensor, correlation: Tensor) -> Tensor:
        prompts = self.block.generate(correlation)
        if not self.prompted:
            prompts = prompts.without()
        seen = self.block.see(image, correlation, prompts=prompts)
        fusion = self.block.fusion
        of_texts = fusion.project_texts(self.texts)
        return self.head(fusion(correlation, fusion.project_image(seen), of_texts))[..., 0]


def trained_iou(*, prompted: bool) -> float:
    torch.manual_seed(0)
    model = Toy(prompted=prompted)
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        image, correlation, masks = pictures(BATCH, generator)
        loss = F.binary_cross_entropy_with_logits(model(image, correlation), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    image, correlation, masks = pictures(100, torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = model(image, correlation) > 0
    true = masks.bool()
    overlap = (found & true).sum(dim=(2, 3)) / (found | true).sum(dim=(2, 3)).clamp(min=1)
    return overlap[true.any(dim=(2, 3))].mean().item()


@pytest.mark.slow
def test_prompts_find_the_rest_of_an_object() -> None:
    assert trained_iou(prompted=True) > trained_iou(prompted=False) + 0.15
