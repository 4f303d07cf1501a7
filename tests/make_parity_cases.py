"""Make the compact parity cases from the full ones: ``python -m tests.make_parity_cases``.

Inputs are kept complete, so that a model can be run on them; of large outputs every n-th number is
kept along each axis, and how is written to ``thinning.json``. Give methods as arguments to make
only theirs; a method's recipe names the files it takes.
"""

import gzip
import json
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.parity import (
    COMPACT,
    FULL,
    PACKED,
    PACKED_BATCH,
    THINNING,
    pack_photo,
    pack_photos,
)


@dataclass(frozen=True)
class Arrays:
    """How one recording is thinned out.

    Attributes:
        file: its name.
        complete: arrays kept as they are, the inputs above all; "*" keeps all.
        photos: arrays of H x W x 3 bytes, or B x H x W x 3, kept as they are, but packed.
        left_out: arrays that are not copied.
        only: the arrays that are copied, where that is not all others.
        limit: most numbers that are kept of any other array.
        squares: maps of which every fourth square of 4 x 4 numbers is kept, in both directions.
        first: arrays of which every so many-th row is kept whole, by name.
        parts: arrays of which one part is kept, by name.
    """

    file: str
    complete: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    limit: int = 4096
    photos: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    squares: tuple[str, ...] = ()
    first: tuple[tuple[str, int], ...] = ()
    parts: Mapping[str, tuple[slice, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What the compact copy of a method consists of.

    Attributes:
        json_files: copied packed.
        arrays: recordings.
    """

    json_files: tuple[str, ...]
    arrays: tuple[Arrays, ...]


FREEDA_SUPERPIXELS = ("voc20", "context59_ade", "stuff", "cityscapes", "default_string")

# What is recorded of the first of two windows.
FREEDA_WINDOW = (
    *("prototypes", "prototypes_k", "text_embeddings", "clip_image_features", "dino_tokens"),
    *("w0_region_features", "w0_region_similarities", "w0_vanished", "w0_local_sub"),
    *("w0_scores_sub", "w0_labels", "w0_clip_input_sub", "w0_pamr_scores_sub", "w0_pamr_labels"),
    *("w0_k_maxmean07_sub", "w0_k_geometric07_sub", "w0_no_superpixels_sub"),
)

# Of the recorded attention only the caption's half, and of the finest layer the first eight rows:
# what comes of it is compared there.
_ROWS = (slice(None), slice(0, 8))
DAAM_PARTS = {
    **{f"q_t{t}_l{layer}": (slice(2, None),) for t in (0, 1) for layer in (0, 2, 3)},
    **{f"k_t{t}_l{layer}": (slice(2, None),) for t in (0, 1) for layer in (0, 2, 3)},
    **{f"q_t{t}_l1": (slice(1, None), slice(0, 8 * 64)) for t in (0, 1)},
    **{f"k_t{t}_l1": (slice(1, None),) for t in (0, 1)},
    "global": (*_ROWS, slice(None, None, 4)),
    "dino_patch_grid": (slice(None, None, 16),),
    **{f"word{i}_prototype_{t}": (slice(None, None, 16),) for i in (0, 1) for t in (40, 50)},
}
DAAM_WORDS = ("word0", "word1")

# Batch norms after one step, which depend on their running statistics before.
CRIS_STATISTICS = tuple(
    f"after/module.{name}.{kind}"
    for name in (
        *("backbone.visual.bn1", "backbone.visual.attnpool.connect.1", "neck.txt_proj.1"),
        "proj.vis.3.1",
    )
    for kind in ("running_mean", "running_var", "num_batches_tracked")
)

RECIPES = {
    "clip": Recipe(
        json_files=("manifest_vitb16.json", "manifest_rn50.json", "tokenizer.json"),
        arrays=(
            Arrays(
                "case_vitb16.npz",
                complete=("raw_0", "image_u8", "texts", "token_ids"),
                left_out=("raw_1",),
            ),
            # The pictures are those of case_vitb16.
            Arrays("case_rn50.npz", ("texts", "token_ids"), ("raw_0", "raw_1", "image_u8")),
            Arrays("bn_rn50.npz", ("*",)),
        ),
    ),
    "catseg": Recipe(
        json_files=("manifest_vitb384.json", "finetune_modes.json"),
        arrays=(
            *(
                Arrays(f"vitb384_{name}.npz", ("image", "class_names", "tokens"), limit=800)
                for name in ("synth_5", "synth_20", "photo_20", "sliding_rocket")
            ),
            # The image is that of sliding_rocket.
            Arrays("vitb384_whole_rocket.npz", ("class_names",), ("image",), limit=800),
            Arrays("vitb384_train.npz", complete=("images", "labels", "class_names"), limit=800),
        ),
    ),
    # The inputs of SAM's decoder are 2 MB of noise: test_sam.py has golden values on smaller ones.
    "sam": Recipe(
        json_files=("manifest_prompt_decoder.json",),
        arrays=(
            Arrays(
                "prompt_encoder.npz",
                ("points", "labels", "boxes", "sparse_mask_shape"),
                limit=4096,
                squares=("mask",),
            ),
        ),
    ),
    "escnet": Recipe(json_files=(), arrays=(Arrays("ppg_cases.npz", ("*",)),)),
    # A picture at 416 pixels and all running statistics would be 500 kB: the whole network is
    # compared on the training batch, which needs no statistics, and the text tower by itself.
    "cris": Recipe(
        json_files=("manifest_r50.json", "optim.json"),
        arrays=(
            Arrays("lmdb_records.npz", ("*",), left_out=("train_image",)),
            Arrays("metrics.npz", ("*",), first=(("logits", 5),)),
            Arrays(
                "eval_r50.npz",
                ("sentences", "word_ids", "pad_mask"),
                only=("sentences", "word_ids", "pad_mask", "words", "state", "dyn"),
                limit=400,
            ),
            Arrays(
                "train_r50.npz",
                ("word_ids", "mask_u8", "grad_names", "grad_norms", "token_ids_of_rows"),
                CRIS_STATISTICS,
                limit=100,
                photos=("input_u8",),
            ),
        ),
    ),
    # The first crop is cut from its photograph; pictures at 448 pixels and of whole photographs are
    # left to the full cases, which also have them window by window.
    "segclip": Recipe(
        json_files=("manifest_vitb16.json", "optimizer_groups.json"),
        arrays=(
            Arrays(
                "train_2.npz",
                complete=(
                    *("superpixels0", "superpixels1", "coord", "captions", "input_ids", "mean"),
                    *("std", "parameter_names", "gumbel_main", "mask_noise_raw", "gumbel_mae"),
                    *("superpixel_patch_ids", "superpixel_patch_ids_whole0", "mae_mask"),
                    "patch_rows",
                    "superpixel_patch_ids_whole1",
                    *(
                        f"{mode}/{name}"
                        for mode in ("batchfirst", "asrun")
                        for name in ("map_hard", "mae_map_hard")
                    ),
                ),
                left_out=("photo1_uint8", "crop0_uint8", "input_mask"),
                limit=150,
                photos=("photo0_uint8", "crop1_uint8"),
            ),
            Arrays("seg_voc.npz", ("label_map",), only=("label_map",)),
            Arrays(
                "seg_voc_lowthr.npz",
                ("*",),
                only=(
                    *("label_map", "class_names", "bg_thresh", "logit_scale", "text_embedding"),
                    *("window_map_soft", "window_region_features", "window_image_feature"),
                    *("window_threshold", "ori_shape"),
                ),
            ),
        ),
    ),
    # The picture of dinov2_vitb14 and of the first window of inference is that of superpixels; the
    # keys of retrieval are 2 MB of noise: test_retrieval.py has cases of its own.
    "freeda": Recipe(
        json_files=("manifest_dinov2_vitb14.json",),
        arrays=(
            Arrays("dinov2_vitb14.npz", left_out=("image_rgb",), limit=400),
            Arrays(
                "inference.npz",
                ("prototypes", "prototypes_k", "text_embeddings", "clip_image_features"),
                only=FREEDA_WINDOW,
                limit=400,
                parts={"dino_tokens": (slice(0, 1),)},
            ),
            Arrays(
                "superpixels.npz",
                photos=("image_rgb",),
                only=("image_rgb", *(f"labels_{name}" for name in FREEDA_SUPERPIXELS)),
            ),
            Arrays(
                "daam.npz",
                complete=(
                    *("caption", "tokens", "words", "latent_side", "word_token_indices"),
                    *DAAM_WORDS,
                    *(f"{word}_mask_{threshold}" for word in DAAM_WORDS for threshold in (40, 50)),
                ),
                limit=512,
                left_out=(
                    *("word2", "word2_expanded_sub", "word2_mask_40", "word2_mask_50"),
                    *("word2_prototype_40", "word2_prototype_50", "q_t1_l3", "k_t1_l3"),
                    "global_normalized_sub",  # nothing here makes maps that add up to 1
                ),
                parts=DAAM_PARTS,
            ),
            Arrays("text_key_candidates.npz", ("*",)),
        ),
    ),
}


def make(method: str, source: Path = FULL, target: Path = COMPACT) -> None:
    """Write the compact copy of one method anew."""
    recipe = RECIPES[method]
    folder = target / method
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in recipe.json_files:
        content = json.loads((source / method / name).read_text(encoding="utf-8"))
        packed = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        (folder / f"{name}.gz").write_bytes(gzip.compress(packed, mtime=0))
    thinning = {}
    for arrays in recipe.arrays:
        thinning[arrays.file] = _thin_file(arrays, source / method, folder)
    (folder / THINNING).write_text(json.dumps(thinning, indent=1) + "\n")


def _thin_file(arrays: Arrays, source: Path, target: Path) -> dict[str, dict[str, object]]:
    kept: dict[str, np.ndarray] = {}
    rules: dict[str, dict[str, object]] = {}
    with np.load(source / arrays.file) as file:
        for key in (key for key in arrays.only or file.files if key not in arrays.left_out):
            values = file[key]
            if key in arrays.photos:
                is_batch = values.ndim == 4
                packed = pack_photos(values) if is_batch else pack_photo(values)
                kept[key + (PACKED_BATCH if is_batch else PACKED)] = packed
                continue
            if key in arrays.squares:
                kept[key] = _squares(values)
                continue
            if key in arrays.parts:
                kept[key] = values[arrays.parts[key]]
                continue
            is_complete = key in arrays.complete or "*" in arrays.complete
            steps = [1] * values.ndim if is_complete else _steps(values.shape, arrays.limit)
            if key in dict(arrays.first):
                steps = [dict(arrays.first)[key], *[1] * (values.ndim - 1)]
            kept[key] = values[tuple(slice(None, None, step) for step in steps)]
            if max(steps, default=1) > 1:
                rules[key] = {"steps": steps, "largest": float(np.nanmax(np.abs(values)))}
    np.savez_compressed(target / arrays.file, **kept)
    return rules


def _squares(maps: np.ndarray) -> np.ndarray:
    height, width = maps.shape[-2:]
    split = maps.reshape(*maps.shape[:-2], height // 16, 4, 4, width // 16, 4, 4)
    return split[..., 0, :, :, 0, :].reshape(*maps.shape[:-2], height // 4, width // 4)


def _steps(shape: tuple[int, ...], limit: int) -> list[int]:
    """A step for each axis, the longest thinned first, so that at most ``limit`` numbers stay."""
    steps = [1] * len(shape)
    lengths = list(shape)
    while math.prod(lengths) > limit:
        axis = lengths.index(max(lengths))
        steps[axis] += 1
        lengths[axis] = -(-shape[axis] // steps[axis])
    return steps


def main(arguments: list[str]) -> int:
    """Make the methods named, or all; the sizes go to standard output."""
    unknown = [name for name in arguments if name not in RECIPES]
    if unknown:
        sys.stderr.write(f"no recipe for {unknown}; known are {list(RECIPES)}\n")
        return 2
    for method in arguments or RECIPES:
        make(method)
        size = sum(path.stat().st_size for path in (COMPACT / method).iterdir())
        sys.stdout.write(f"{method}: {size / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
