"""What an ESC-Net shows of itself."""

import torch

from lexiseg.registry import builder_of


def test_each_block_shows_its_prompts_and_what_left_it():
    torch.manual_seed(0)
    model = builder_of("escnet_lite")(ratio=1.0).eval()
    texts = model.encode_texts([["dog"], ["sky"], ["road"]])
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        views = list(model.views(image, texts))
        logits = model(image, texts)[0]
        explanation = model.explain(image, texts)
    steps = ["correlation", "refined without SAM", "refined"]
    last = ["correlation", "logits without SAM", "logits"]
    assert [view.name for view in views] == [
        *(f"block 1, {step}" for step in steps),
        *(f"block 2, {step}" for step in last),
    ]
    torch.testing.assert_close(views[-1].maps, logits)
    prompts, first = explanation.blocks[0].prompts, views[0]
    height, width = prompts.masks.shape[-2:]
    found = 0
    for text in range(3):
        count = int(prompts.valid[0, text].sum())
        assert first.points[text].shape == (count, 2)
        assert first.masks[text].shape == (count, height, width)
        for (x, y), mask in zip(first.points[text].tolist(), first.masks[text], strict=True):
            assert mask[int(y * height), int(x * width)]  # a point lies on its own mask
            found += 1
    assert found
