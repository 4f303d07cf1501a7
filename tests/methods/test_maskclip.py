import torch
import torch.nn.functional as F

from lexiseg.methods.base import Texts
from tests.methods import contract


def test_logits_are_the_scaled_cosine() -> None:
    model = contract.make("maskclip_vitb16")
    images = contract.prepared(model)
    texts = Texts(F.normalize(torch.randn(3, 16), dim=-1))
    with torch.no_grad():
        patches = model.encoder.encode_images(images).patch_features
    cosine = F.cosine_similarity(patches[:, None], texts.features[None, :, :, None, None], dim=2)
    torch.testing.assert_close(
        contract.run(model, images, texts), model.encoder.logit_scale.exp() * cosine
    )
    assert model.activation == "softmax"


def test_clip_checkpoints_are_taken_as_they_are() -> None:
    from lexiseg.encoders.checkpoints import to_openai

    model = contract.make("maskclip_vitb16")
    published = to_openai(model.encoder.state_dict())
    state = model.from_published(published)
    assert state.keys() == model.state_dict().keys()
    assert model.from_published(state) == state
