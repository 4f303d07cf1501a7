"""Every published kind of file, made small, reaches safetensors bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lexiseg import registry
from lexiseg.encoders.checkpoints import to_openai
from lexiseg.encoders.clip import build_clip
from lexiseg.methods.base import SegmentationModel
from lexiseg.methods.catseg.checkpoints import to_published as to_catseg
from lexiseg.methods.cris.checkpoints import to_published as to_cris
from lexiseg.registry import create_model
from lexiseg.segmenter import Segmenter
from lexiseg.tools.conversion import convert
from lexiseg.weights import UnsafeCheckpointError, read_metadata, save_weights
from tests.methods import contract
from tests.methods.escnet.test_checkpoints import clip_file, sam_file

TINY: dict[str, Callable[[], SegmentationModel]] = {
    "catseg_vitb16": contract.tiny_catseg,
    "cris_r50": contract.tiny_cris,
    "escnet_vitb16": contract.tiny_escnet,
    "maskclip_vitb16": contract.tiny_maskclip,
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.builder_of("catseg_vitb16")  # fills the registry
    monkeypatch.setattr(registry, "_BUILDERS", TINY)


def built(name: str) -> SegmentationModel:
    torch.manual_seed(3)
    return TINY[name]()


def same_model(file: Path, expected: SegmentationModel) -> None:
    found = Segmenter.from_pretrained(file).model
    assert type(found) is type(expected)
    states = found.state_dict(), expected.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, value in states[1].items():
        assert states[0][key].dtype == value.dtype
        assert torch.equal(states[0][key], value), key


@pytest.mark.parametrize("prefix", ["", "module."])
def test_catseg(tmp_path: Path, prefix: str) -> None:
    model = built("catseg_vitb16")
    published = {prefix + key: value for key, value in to_catseg(model.state_dict()).items()}
    torch.save({"model": published, "iteration": 79999}, tmp_path / "model_base.pth")
    out = tmp_path / "out.safetensors"
    report = convert(tmp_path / "model_base.pth", out)
    assert report.model == "catseg_vitb16"
    assert read_metadata(out) == {"model": "catseg_vitb16"}
    assert report.fits
    assert not report.filled
    assert [fate.key for fate in report.fates] == list(published)
    assert {fate.key.rpartition(".")[2] for fate in report.ignored} == {"attn_mask"}
    placed = {place for fate in report.loaded for place in fate.places}
    assert placed == model.state_dict().keys()
    same_model(out, model)


def test_cris(tmp_path: Path) -> None:
    model = built("cris_r50")
    content = {"epoch": 49, "state_dict": to_cris(model.state_dict())}
    torch.save(content, tmp_path / "best.pth")
    report = convert(tmp_path / "best.pth", tmp_path / "out.safetensors")
    assert (report.model, report.ignored) == ("cris_r50", ())
    same_model(tmp_path / "out.safetensors", model)


def test_clip_as_openai_saves_it(tmp_path: Path) -> None:
    """In half precision, so that the file does not grow."""
    model = built("maskclip_vitb16")
    encoder = {k.removeprefix("encoder."): v for k, v in model.state_dict().items()}
    theirs = {key: value.half() for key, value in to_openai(encoder).items()}
    model.load_state_dict({key: value.half().float() for key, value in model.state_dict().items()})
    file, out = tmp_path / "ViT-B-16.pt", tmp_path / "out.safetensors"
    torch.save(theirs | {"input_resolution": torch.tensor(32)}, file)
    report = convert(file, out)
    assert report.model == "maskclip_vitb16"
    (ignored,) = report.ignored
    assert str(ignored) == "weights: input_resolution ignored: no parameter of the model"
    same_model(out, model)
    assert out.stat().st_size < 1.2 * file.stat().st_size


def test_a_scripted_archive(tmp_path: Path) -> None:
    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor([1.5, 2.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.gain

    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(Holder()), tmp_path / "scripted.pt")
    report = convert(tmp_path / "scripted.pt", tmp_path / "out.safetensors", model="cris_r50")
    assert report.unexpected == ("gain",)
    assert not report.fits
    assert not (tmp_path / "out.safetensors").exists()


def test_escnet_from_clip_and_sam(tmp_path: Path) -> None:
    torch.save(clip_file(), tmp_path / "clip.pt")
    torch.save(sam_file(), tmp_path / "sam.pth")
    parts = {"clip": tmp_path / "clip.pt", "sam": tmp_path / "sam.pth"}
    out = tmp_path / "out.safetensors"
    report = convert(parts, out, model="escnet_vitb16")
    assert len(report.fates) == len(clip_file()) + len(sam_file())
    assert "SAM's image encoder is not used" in {fate.reason for fate in report.ignored}
    assert report.filled
    torch.manual_seed(0)
    expected = contract.tiny_escnet()
    expected.initialise({"clip": clip_file(), "sam": sam_file()})
    same_model(out, expected)
    again = tmp_path / "again.safetensors"
    convert(parts, again, model="escnet_vitb16")
    assert again.read_bytes() == out.read_bytes()


def test_a_clip_that_only_starts_a_model_is_told(tmp_path: Path) -> None:
    clip = build_clip_state()
    torch.save(clip, tmp_path / "RN50.pt")
    with pytest.raises(ValueError, match="fits no model as it is; name the model"):
        convert(tmp_path / "RN50.pt", tmp_path / "out.safetensors")
    report = convert(tmp_path / "RN50.pt", tmp_path / "out.safetensors", model="cris_r50")
    assert all(
        key.startswith(("neck.", "decoder.", "projector.")) or ".connect." in key
        for key in report.filled
    )
    torch.manual_seed(0)
    same_model(tmp_path / "out.safetensors", create_model("cris_r50", weights=clip))


def build_clip_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(8)
    encoder = contract.tiny_cris().encoder.state_dict()
    return {key: value for key, value in to_openai(encoder).items() if ".connect." not in key}


def test_our_own_file_keeps_its_metadata(tmp_path: Path) -> None:
    model = built("catseg_vitb16")
    metadata = {"model": "catseg_vitb16", "licence": "mit"}
    save_weights(tmp_path / "own.safetensors", model.state_dict(), metadata)
    convert(tmp_path / "own.safetensors", tmp_path / "out.safetensors")
    assert read_metadata(tmp_path / "out.safetensors") == metadata
    same_model(tmp_path / "out.safetensors", model)


def test_what_does_not_fit_is_reported_and_not_written(tmp_path: Path) -> None:
    published = to_catseg(built("catseg_vitb16").state_dict())
    del published["upsample1.weight"]
    published["upsample9.weight"] = torch.zeros(2)
    published["upsample2.bias"] = torch.zeros(7)
    torch.save(published, tmp_path / "a.pth")
    out = tmp_path / "out.safetensors"
    report = convert(tmp_path / "a.pth", out, model="catseg_vitb16")
    assert report.missing == ("guidance_upsamples.0.weight",)
    assert report.unexpected == ("upsample9.weight",)
    assert report.misshaped == ("guidance_upsamples.1.bias: (7,) for (4,)",)
    assert not out.exists()
    assert report.as_dict()["fits"] is False


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a name that ends in \.safetensors"):
        convert(tmp_path / "a.pth", tmp_path / "out.pth")
    out = tmp_path / "out.safetensors"
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        convert(tmp_path / "a.pth", out)
    with pytest.raises(ValueError, match="without a model; name it"):
        convert({"clip": tmp_path / "a.pth"}, out)
    with pytest.raises(ValueError, match=r"parts \['samm'\] came, but escnet_vitb16 takes 'clip'"):
        convert({"samm": tmp_path / "a.pth"}, out, model="escnet_vitb16")
    (tmp_path / "a.pth").write_bytes(b"no checkpoint")
    with pytest.raises(UnsafeCheckpointError, match="of no known format"):
        convert(tmp_path / "a.pth", out)


def test_two_models_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BUILDERS", TINY | {"twin": contract.tiny_catseg})
    torch.save(to_catseg(built("catseg_vitb16").state_dict()), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="fits catseg_vitb16 and twin; name the model"):
        convert(tmp_path / "a.pth", tmp_path / "out.safetensors")


def test_a_bare_clip_of_another_size_fits_nothing(tmp_path: Path) -> None:
    from dataclasses import replace

    state = to_openai(build_clip(replace(contract.TINY_CLIP, dim=24)).state_dict())
    torch.save(state, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match="fits no model"):
        convert(tmp_path / "clip.pt", tmp_path / "out.safetensors")
