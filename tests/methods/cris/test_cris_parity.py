"""CRIS against recordings of the authors' code: the way in, every stage, the way back, scores."""

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from lexiseg.encoders.tokenizer import tokenize
from lexiseg.evaluation.metrics import overlap, referring_scores
from lexiseg.methods.cris.checkpoints import from_published, to_published
from lexiseg.methods.cris.finetuning import learns_slowly, published_rates
from tests.methods.cris.recordings import (
    MANIFEST,
    caught,
    letterbox,
    normalised,
    on_both_sources,
    once,
    pair_logits,
    published_model,
    published_state,
    recording,
    stored_statistics,
    unpacked,
)
from tests.parity import FULL, cases

# Twice the float32 noise of the recordings, as their README states it.
LOGITS, NECK, C5 = 1.5e-3, 1.5e-3, 1e-3

full_only = pytest.mark.skipif(
    not (FULL / "cris").is_dir(), reason="the full parity cases, ../shared/parity/cris, are absent"
)


@once
def run_stages() -> dict[str, Tensor]:
    """Every stage of the recorded evaluation, under the names of the recording."""
    case, model = recording("eval_r50", "full"), published_model(statistics=True)
    outputs: dict[str, Tensor] = {}
    parts = {"fq": model.neck, "decoder": model.decoder, "dyn": model.projector.kernel}
    parts |= {f"layer{index}": layer for index, layer in enumerate(model.decoder.layers)}
    handles = caught(parts, outputs)
    images = normalised(recording("preprocess", "full")["input_u8"])
    with torch.no_grad():
        features = model.encoder.encode_images(images, intermediates=(1, 2))
        texts = model.encode_texts([[str(sentence)] for sentence in case["sentences"]])
        outputs["logits"] = pair_logits(model, images, texts)
    for handle in handles:
        handle.remove()
    outputs["c3"], outputs["c4"] = features.intermediates
    return outputs | {"c5": features.patch_features}


@on_both_sources
def test_cris_parity_manifest(source: str) -> None:
    """Every official key has its place, and the way back gives the same keys, shapes, values."""
    manifest = cases("cris", source).json(MANIFEST)
    assert manifest == cases("cris", "compact").json(MANIFEST)
    official = published_state()
    assert {key: list(value.shape) for key, value in official.items()} == {
        key: row["shape"] for key, row in manifest.items()
    }
    back = to_published(from_published(official))
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], value) for key, value in official.items())
    own = published_model(statistics=False).state_dict()
    assert from_published(official).keys() == own.keys() == from_published(own).keys()


@on_both_sources
@pytest.mark.parametrize("name", ["eval_r50", "post_r50"])
def test_cris_parity_token_ids(name: str, source: str) -> None:
    if source == "compact" and name == "post_r50":
        return  # its texts are among those of the other recordings
    case = recording(name, source)
    ids = tokenize(case["sentences"].tolist(), context_length=17, truncate=True)
    np.testing.assert_array_equal(ids, case["word_ids"])


@on_both_sources
def test_cris_parity_texts(source: str) -> None:
    """A long sentence beside them keeps the padding of the others from being cut off."""
    case, model = recording("eval_r50", source), published_model(statistics=False)
    long_one = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen 15"
    with torch.no_grad():
        texts = model.encode_texts([[str(s)] for s in [*case["sentences"], long_one]])
        kernels = model.projector.kernel(texts.states)
    assert texts.words.shape[1] == 17
    np.testing.assert_array_equal(~texts.is_word[:2], case["pad_mask"])
    case.check("words", texts.words[:2])
    case.check("state", texts.states[:2])
    case.check("dyn", kernels[:2])


@full_only
def test_cris_parity_letterbox() -> None:
    """Pictures in the square: of OpenCV 4 to a grey level, of OpenCV 5 to three."""
    case, preprocess = recording("preprocess", "full"), letterbox()
    for index, name in enumerate(("raw_a", "raw_b")):
        height, width = case[name].shape[:2]
        (down, top), (across, left) = preprocess.placement(height, width)
        placed = np.array([[across, 0, left], [0, down, top]])
        back = np.array([[1 / across, 0, -left / across], [0, 1 / down, -top / down]])
        np.testing.assert_allclose(placed, case["mat"][index], atol=1e-12)
        np.testing.assert_allclose(back, case["mat_inv"][index], atol=1e-11)
        entered = rearrange(preprocess.enter(case[name]), "C H W -> H W C").numpy()
        for key, most, share in (("input_u8", 1, 0.001), ("input_u8_cv5", 3, 0.05)):
            away = np.abs(entered - case[key][index])
            assert away.max() <= most
            assert (away > 0).mean() < share
    tensors = normalised(case["input_u8"])
    case.check("tensor_sub", tensors[:, :, ::8, ::8], absolute=1e-6)
    entered = preprocess(case["raw_a"])
    assert (entered - tensors[0]).abs().max() < 0.016  # a grey level


@full_only
@pytest.mark.parametrize(
    ("key", "absolute"),
    [
        *(("c3", 2e-4), ("c4", 4e-4), ("c5", C5), ("fq", NECK), ("decoder", 1e-3)),
        *(("dec_layers", 2e-3), ("dyn", 2e-5), ("logits", LOGITS)),
    ],
)
def test_cris_parity_stages(key: str, absolute: float) -> None:
    stages = run_stages()
    parts = {
        "c3": lambda: stages["c3"][:, ::16, ::2, ::2],
        "c4": lambda: stages["c4"][:, ::32],
        "c5": lambda: stages["c5"][:, ::16],
        "fq": lambda: stages["fq"][:, ::16],
        "decoder": lambda: rearrange(stages["decoder"], "B N D -> B D N")[:, ::16],
        "dec_layers": lambda: torch.stack(
            [rearrange(stages[f"layer{i}"], "B N D -> N B D")[::8, :, ::16] for i in range(3)]
        ),
        "dyn": lambda: stages["dyn"],
        "logits": lambda: stages["logits"],
    }
    recording("eval_r50", "full").check(key, parts[key](), absolute=absolute)


@full_only
def test_cris_parity_many_sentences_in_one_image_pass() -> None:
    """The recorded logits again, of all sentences on all pictures at once, some at a time."""
    case, model = recording("post_r50", "full"), published_model(statistics=True)
    images = normalised(recording("preprocess", "full")["input_u8"])
    looks: list[int] = []
    handle = model.encoder.visual.register_forward_pre_hook(lambda _, x: looks.append(len(x[0])))
    model.class_chunk = 3
    with torch.no_grad():
        logits = model(images, model.encode_texts([[str(s)] for s in case["sentences"]]))
    handle.remove()
    assert looks == [2]
    ours = logits[case["image_index"].tolist(), range(4)][:, None]
    case.check("logits", ours, absolute=LOGITS)


@full_only
def test_cris_parity_back_to_the_original_size() -> None:
    """The official test loop from logits to IoU, under both versions of OpenCV."""
    case, pictures = recording("post_r50", "full"), recording("preprocess", "full")
    model, preprocess = published_model(statistics=False), letterbox()
    assert model.threshold == float(case["threshold"])
    scores = case.tensor("logits").sigmoid()
    case.check("prob416_sub", preprocess.magnify(scores[:, 0])[:, ::4, ::4], absolute=1e-6)
    overlaps = []
    for index, picture in enumerate("ab"[i] for i in case["image_index"]):
        size = pictures[f"raw_{picture}"].shape[:2]
        restored = preprocess.restore(scores[index], size)[0].numpy()
        case.check(f"prob_{index}_sub", restored[::4, ::4], absolute=1e-6)
        predicted = restored >= model.threshold
        np.testing.assert_array_equal(predicted, unpacked(case[f"mask_{index}"], size))
        assert (predicted != unpacked(case[f"mask_{index}_cv5"], size)).sum() <= 64
        overlaps.append(overlap(predicted, unpacked(case[f"gt_{picture}"], size)))
    found = referring_scores(overlaps)
    np.testing.assert_allclose(found.iou, case["iou"], atol=1e-6)
    np.testing.assert_allclose(found.iou, case["iou_cv5"], atol=1e-3)
    assert found.mean_iou == pytest.approx(float(case["mean_iou"]), abs=1e-6)
    assert list(found.precision.values()) == pytest.approx(case["prec"].tolist())


@on_both_sources
def test_cris_parity_metrics_from_logits(source: str) -> None:
    """Logits to masks; test_metrics.py goes on from masks to scores."""
    case, preprocess = recording("metrics", source), letterbox()
    logits = case.tensor("logits").float()
    for row, index in enumerate(case.thin("logits", np.arange(10)[:, None, None]).ravel()):
        height, width = case["sizes"][index].tolist()
        restored = preprocess.restore(logits[row : row + 1].sigmoid(), (height, width))[0].numpy()
        expected = unpacked(case[f"pred_{index}"], (height, width))
        np.testing.assert_array_equal(restored >= 0.35, expected)
        (down, top), (across, left) = preprocess.placement(height, width)
        back = np.array([[1 / across, 0, -left / across], [0, 1 / down, -top / down]])
        if source == "full":
            np.testing.assert_allclose(back, case["mat_inv"][index], atol=1e-9)


@on_both_sources
def test_cris_parity_training_data(source: str, tmp_path) -> None:
    """Pictures, soft masks and sentences as the authors' training set gives them."""
    from lexiseg.data.referring import read_lmdb
    from tests.data.test_lmdb_records import recorded_entries, write_database

    case, preprocess = recording("lmdb_records", source), letterbox(64)
    dataset = read_lmdb(write_database(tmp_path / "refcoco" / "train.lmdb", recorded_entries(case)))
    choose = np.random.RandomState(0)  # what numpy.random.seed(0) makes of the global generator
    for index in range(3):
        sample = dataset[index]
        mask = preprocess.enter_mask(sample.mask).numpy()
        np.testing.assert_allclose(mask, case["train_mask"][index], atol=1e-6)
        sentence = sample.expressions[choose.choice(len(sample.expressions))]
        ids = tokenize([sentence], context_length=17, truncate=True)
        np.testing.assert_array_equal(ids[0], case["train_word_ids"][index])
        height, width = case["val_ori_size"][index].tolist()
        (down, top), (across, left) = preprocess.placement(height, width)
        back = np.array([[1 / across, 0, -left / across], [0, 1 / down, -top / down]])
        np.testing.assert_allclose(back, case["val_inverse"][index], atol=1e-9)
        if source == "full":
            away = (preprocess(sample.image) - case.tensor("train_image")[index]).abs()
            assert away.max() < 0.016  # a grey level
            assert (away > 1e-4).float().mean() < 0.002


@on_both_sources
def test_cris_parity_learning_rates(source: str) -> None:
    recorded = cases("cris", source).json("optim.json")
    rates = recorded["lr_of_epoch_1_to_50_backbone_head"]
    ours = [published_rates(epoch) for epoch in range(1, len(rates) + 1)]
    np.testing.assert_allclose(ours, rates, rtol=1e-9)
    parameters = dict(published_model(statistics=False).named_parameters())
    slow = to_published({name: p for name, p in parameters.items() if learns_slowly(name)})
    fast = to_published({name: p for name, p in parameters.items() if not learns_slowly(name)})
    assert [len(slow), len(fast)] == [group["parameters"] for group in recorded["groups"]]
    of_encoder = {name for name in fast if name.startswith("module.backbone.")}
    assert of_encoder == set(recorded["head_group_names_from_backbone"])


@full_only
def test_cris_parity_no_array_is_left_out() -> None:
    """Whatever is recorded is named in these tests, so that no array goes unchecked."""
    known = {
        "preprocess": {"raw_a", "raw_b", "mat", "mat_inv", "tensor_sub", "opencv"}
        | {"input_u8", "input_u8_cv5"},
        "eval_r50": {"sentences", "word_ids", "pad_mask", "c3", "c4", "c5", "words", "state"}
        | {"fq", "dec_layers", "decoder", "dyn", "logits"},
        "post_r50": {"sentences", "image_index", "word_ids", "logits", "prob416_sub", "iou"}
        | {"mean_iou", "prec", "threshold", "opencv", "gt_a", "gt_b", "iou_cv5", "opencv_cv5"}
        | {f"{kind}_{i}{end}" for i in range(4) for kind in ("mask",) for end in ("", "_cv5")}
        | {f"prob_{i}_sub" for i in range(4)},
        "metrics": {"logits", "sizes", "mat_inv", "iou", "mean_iou", "prec", "opencv"}
        | {"overall_iou_unofficial"}
        | {f"{kind}_{i}" for i in range(10) for kind in ("gt", "pred")},
        "lmdb_records": {"train_image", "train_word_ids", "train_mask", "val_word_ids"}
        | {"val_inverse", "val_ori_size", "val_mask_file", "opencv"}
        | {f"{kind}_{i}" for i in range(5) for kind in ("key", "value")}
        | {f"mask_png_{i}" for i in range(3)},
    }
    for name, keys in known.items():
        assert set(recording(name, "full")) == keys
    rows = cases("cris", "full").json(MANIFEST)
    assert set(stored_statistics()) == {key for key, row in rows.items() if "stored" in row}
