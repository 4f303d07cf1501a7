"""Lines that matter, each broken once in a copy, and the tests that have to notice.

``python -m tests.mutations`` goes through all of them, ``python -m tests.mutations tiling catseg``
through those whose file has such a word in its path. It prints a line each and fails if a mutation
was not noticed. tests/test_mutations.py looks after the list: every text still stands in its file.
"""

import os
import re
import shutil
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutation:
    """One line broken.

    Attributes:
        what: what is wrong then.
        file: below src/lexiseg.
        old: stands there exactly once.
        new: in its place.
        tests: files below tests, of which one has to fail.
    """

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    # pictures, and the way back
    Mutation(
        "EXIF orientations 6 and 8 exchanged",
        "pictures/reading.py",
        "6: (True, -1, 1)",
        "6: (True, 1, -1)",
        ("pictures/test_reading.py",),
    ),
    Mutation(
        "mean and std exchanged",
        "images.py",
        "pixels = (pixels - mean) / std",
        "pixels = (pixels - std) / mean",
        ("test_images.py",),
    ),
    Mutation(
        "padding not cropped on the way back",
        "images.py",
        "scores = scores[:, : before[0], : before[1]]",
        "scores = scores[:, : padded[0], : padded[1]]",
        ("test_images.py",),
    ),
    Mutation(
        "the limit of pixels off by a row",
        "pictures/reading.py",
        "if width * height > max_pixels:",
        "if width * (height - 1) > max_pixels:",
        ("pictures/test_reading.py",),
    ),
    # windows
    Mutation(
        "the last window a pixel too early",
        "tiling.py",
        "last = max(0, length - tiling.window)",
        "last = max(0, length - tiling.window - 1)",
        ("test_tiling.py",),
    ),
    Mutation(
        "softmax over the rows",
        "tiling.py",
        "return logits.softmax(dim=1) if",
        "return logits.softmax(dim=2) if",
        ("test_tiling.py",),
    ),
    Mutation(
        "corners aligned",
        "tiling.py",
        'return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)',
        'return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)',
        ("test_tiling.py",),
    ),
    Mutation(
        "tiles of a large picture with the weights of the wrong side",
        "jobs/large.py",
        "weights[-shared:] = 1 - (np.arange(shared, dtype=np.float32) + 0.5) / shared",
        "weights[-shared:] = (np.arange(shared, dtype=np.float32) + 0.5) / shared",
        ("jobs/test_large.py",),
    ),
    # from scores to labels
    Mutation(
        "a score at the threshold is not enough",
        "result.py",
        "        is_none |= best < threshold",
        "        is_none |= best <= threshold",
        ("test_segmenter.py",),
    ),
    Mutation(
        "texts kept when the weights have changed",
        "text_cache.py",
        "key = (_weights_state(model), tuple(tuple(each) for each in prompts))",
        "key = (0, tuple(tuple(each) for each in prompts))",
        ("test_segmenter.py",),
    ),
    Mutation(
        "positions of a later chunk of texts not shifted",
        "winners.py",
        "winner = torch.where(score > best, position + start, winner)",
        "winner = torch.where(score > best, position, winner)",
        ("test_segmenter.py",),
    ),
    Mutation(
        "another number for none",
        "result.py",
        "return 255 if label_count",
        "return 254 if label_count",
        ("test_result.py",),
    ),
    # files
    Mutation(
        "height and width exchanged in YOLO's polygons",
        "outputs/yolo.py",
        '(f"{x / width:.8g} {y / height:.8g}"',
        '(f"{x / height:.8g} {y / width:.8g}"',
        ("outputs/test_yolo.py",),
    ),
    Mutation(
        "COCO's run lengths along rows",
        "outputs/coco.py",
        "coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))",
        "coco_mask.encode(np.asfortranarray(mask.T, dtype=np.uint8))",
        ("outputs/test_coco.py",),
    ),
    Mutation(
        "run lengths read along rows",
        "data/masks.py",
        'np.repeat(inside, self.runs).reshape(self.size, order="F")',
        'np.repeat(inside, self.runs).reshape(self.size, order="C")',
        ("data/test_masks.py",),
    ),
    Mutation(
        "COCO's categories counted from 0",
        "outputs/coco.py",
        """            "category_id": index + 1,
            "segmentation": {""",
        """            "category_id": index,
            "segmentation": {""",
        ("outputs/test_coco.py",),
    ),
    Mutation(
        "files written in their place, by and by",
        "atomic.py",
        "        yield temporary\n        put(temporary, path)\n",
        "        yield path\n",
        ("test_atomic.py", "trust/test_full_disk.py::test_a_writer[weights]"),
    ),
    Mutation(
        "what was not finished stays there",
        "atomic.py",
        "    finally:\n        temporary.unlink(missing_ok=True)",
        "    finally:\n        pass",
        ("test_atomic.py",),
    ),
    # data
    Mutation(
        "what nobody judged is class 0",
        "data/semantic/dataset.py",
        "positions = np.where(positions == _IGNORED, self.ignore_index, positions)",
        "positions = np.where(positions == _IGNORED, 0, positions)",
        ("data/test_semantic.py", "data/test_catalog.py"),
    ),
    Mutation(
        "the photograph is mirrored, its label map is not",
        "data/augment.py",
        "tuple(each[:, ::-1].copy() for each in label_maps)",
        "tuple(each.copy() for each in label_maps)",
        ("data/test_augment.py",),
    ),
    # evaluation
    Mutation(
        "a union without what both have counted once",
        "evaluation/metrics.py",
        "union = true + called - right",
        "union = true + called",
        ("evaluation/test_metrics.py",),
    ),
    Mutation(
        "none of the classes counted as class 0",
        "evaluation/metrics.py",
        "columns = np.where(called, columns, self.class_count)",
        "columns = np.where(called, columns, 0)",
        ("evaluation/test_metrics.py",),
    ),
    Mutation(
        "precision counts an IoU that only reaches the bar",
        "evaluation/metrics.py",
        "precision={at: float((iou > at).mean()) for at in PRECISION_AT}",
        "precision={at: float((iou >= at).mean()) for at in PRECISION_AT}",
        ("evaluation/test_metrics.py",),
    ),
    Mutation(
        "a run that goes on leaves one item out",
        "evaluation/record.py",
        "if i not in already]",
        "if i not in already][bool(already) :]",
        ("evaluation/test_record.py",),
    ),
    # jobs
    Mutation(
        "a photograph that was changed is not done again",
        "jobs/photos.py",
        "if entry is None or (entry.size, entry.mtime_ns) != (task.size, task.mtime_ns):",
        "if entry is None:",
        ("jobs/test_job.py",),
    ),
    # training
    Mutation(
        "a run that goes on leaves one step out",
        "training/steps.py",
        "        return last.step\n",
        "        return last.step + 1\n",
        ("training/test_loop.py",),
    ),
    Mutation(
        "chance not set before a step",
        "training/steps.py",
        "torch.manual_seed(int(np.random.SeedSequence(chance).generate_state(1)[0]))",
        "np.random.SeedSequence(chance).generate_state(1)",
        ("training/test_loop.py",),
    ),
    Mutation(
        "one learning rate for all groups",
        "training/optim.py",
        '"lr": lr * factor, "weight_decay": decay}',
        '"lr": lr, "weight_decay": decay}',
        ("training/test_optim.py",),
    ),
    Mutation(
        "norm layers decayed",
        "training/optim.py",
        "spared = name in of_norm or (",
        "spared = (",
        ("training/test_optim.py",),
    ),
    Mutation(
        "the average moves the wrong way",
        "training/average.py",
        "self.values[name].lerp_(value.detach(), 1 - decay)",
        "self.values[name].lerp_(value.detach(), decay)",
        ("training/test_average.py",),
    ),
    Mutation(
        "the moments that torch makes up stay after resuming",
        "training/state.py",
        "optimizer.state.pop(parameter, None)",
        "optimizer.state.get(parameter, None)",
        ("training/test_loop.py",),
    ),
    # encoders and layers
    Mutation(
        "patches not of length one",
        "layers/cost.py",
        "F.normalize(patch_features, dim=1), text_features)",
        "patch_features, text_features)",
        ("layers/test_cost.py",),
    ),
    Mutation(
        "a residual dropped in the Swin block",
        "layers/swin.py",
        "return x + self.mlp(self.norm2(x))",
        "return self.mlp(self.norm2(x))",
        ("layers/test_swin.py", "methods/catseg/test_catseg_parity.py"),
    ),
    Mutation(
        "windows transposed on their way back",
        "layers/swin.py",
        '"(B T) (i j n) (p r) c -> B T (i p) (j r) (n c)",',
        '"(B T) (i j n) (r p) c -> B T (i p) (j r) (n c)",',
        ("layers/test_swin.py", "methods/catseg/test_catseg_parity.py"),
    ),
    Mutation(
        "tokens of a prompt see those behind them",
        "encoders/clip_text.py",
        "tokens = block(tokens, causal=True)",
        "tokens = block(tokens, causal=False)",
        ("encoders/test_clip_text.py",),
    ),
    # the five methods
    Mutation(
        "CAT-Seg: the published second residual dropped",
        "methods/catseg/classes.py",
        "return part + unpool(z, (part.shape[2], part.shape[3]))",
        "return unpool(z, (part.shape[2], part.shape[3]))",
        ("methods/catseg/test_classes.py", "methods/catseg/test_catseg_parity.py"),
    ),
    Mutation(
        "CAT-Seg: one padding token too many",
        "methods/catseg/classes.py",
        "missing = self.padding_length - x.shape[1]",
        "missing = self.padding_length - x.shape[1] + 1",
        ("methods/catseg/test_classes.py", "methods/catseg/test_catseg_parity.py"),
    ),
    Mutation(
        "CAT-Seg: the keys of a chunk of classes replace those before",
        "methods/catseg/classes.py",
        'keys = keys + reduce(k, "B T h w n c -> B h w n c", "sum")',
        'keys = reduce(k, "B T h w n c -> B h w n c", "sum")',
        ("methods/catseg/test_classes.py",),
    ),
    Mutation(
        "ESC-Net: the last of equally near centres takes a cell",
        "methods/escnet/pseudo_prompts.py",
        "return nearest & (nearest.cumsum(dim=2) == 1)",
        "return nearest & (nearest.flip(2).cumsum(dim=2).flip(2) == 1)",
        ("methods/escnet/test_pseudo_prompts.py",),
    ),
    Mutation(
        "ESC-Net: x and y of a point exchanged",
        "methods/escnet/pseudo_prompts.py",
        "points = torch.stack([best % grid[1], best // grid[1]], dim=-1)",
        "points = torch.stack([best // grid[1], best % grid[1]], dim=-1)",
        ("methods/escnet/test_pseudo_prompts.py",),
    ),
    Mutation(
        "ESC-Net: texts without a prompt count in the mean",
        "methods/escnet/blocks.py",
        "change = self.aggregate(total / count.clamp(min=1))",
        "change = self.aggregate(total / correlation.shape[1])",
        ("methods/escnet/test_blocks.py",),
    ),
    Mutation(
        "SegCLIP: centres share out a patch along the wrong axis",
        "methods/segclip/grouping.py",
        "hard = F.one_hot(soft.argmax(dim=1), logits.shape[1])",
        "hard = F.one_hot(soft.argmax(dim=2) % logits.shape[1], logits.shape[1])",
        ("methods/segclip/test_grouping.py",),
    ),
    Mutation(
        "SegCLIP: the centre's own token dropped from its region",
        "methods/segclip/grouping.py",
        "self.norm_regions(centres + means)",
        "self.norm_regions(means)",
        ("methods/segclip/test_grouping.py", "methods/segclip/test_segclip_parity.py"),
    ),
    Mutation(
        "FreeDA: the mean of similarities in place of the largest",
        "methods/freeda/similarity.py",
        "largest = cosines.amax(dim=1)",
        "largest = cosines.mean(dim=1)",
        ("methods/freeda/test_model.py", "methods/freeda/test_freeda_parity.py"),
    ),
    Mutation(
        "FreeDA: corners of the grid not aligned as published",
        "methods/freeda/similarity.py",
        'return F.interpolate(scores, size=size, mode="bilinear", align_corners=True)[0]',
        'return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)[0]',
        ("methods/freeda/test_freeda_parity.py",),
    ),
    Mutation(
        "CRIS: rows and columns exchanged in the positions",
        "methods/cris/decoder.py",
        "return torch.cat([columns, rows], dim=1)",
        "return torch.cat([rows, columns], dim=1)",
        ("methods/cris/test_parts.py", "methods/cris/test_cris_parity.py"),
    ),
    Mutation(
        "CRIS: the way back to the photograph without its offset",
        "methods/cris/letterbox.py",
        'sampling_weights(self.side, length, scale, offset, "bicubic").to(square)',
        'sampling_weights(self.side, length, scale, 0.0, "bicubic").to(square)',
        ("methods/cris/test_model.py", "methods/cris/test_cris_parity.py"),
    ),
    # the server
    Mutation(
        "requests with other labels run together",
        "apps/server/worker.py",
        "alike = (job for job in self._jobs if job.key == first.key)",
        "alike = (job for job in self._jobs if True)",
        ("apps/server/test_worker.py",),
    ),
    Mutation(
        "any key opens the server",
        "apps/server/guard.py",
        "return hmac.compare_digest(given, expected)",
        "return bool(given)",
        ("apps/server/test_refusals.py",),
    ),
    Mutation(
        "a body is only measured by what its header says",
        "apps/server/guard.py",
        "if self._seen > self._max_body:\n            raise",
        "if False:\n            raise",
        ("apps/server/test_refusals.py",),
    ),
    # weights
    Mutation(
        "a name outside the list is taken",
        "_checkpoint/machine.py",
        "if not self.allows(",
        "if False and not self.allows(",
        ("_checkpoint/test_plain.py", "_checkpoint/test_hostile_files.py"),
    ),
    Mutation(
        "a checksum that is wrong is passed over",
        "weights/records.py",
        "if sha256 is not None and digest.hexdigest() != sha256:",
        "if sha256 is None and digest.hexdigest() != sha256:",
        ("weights/test_records.py",),
    ),
)


def noticed_by(mutation: Mutation, copy: Path) -> str | None:
    """The test that fails, or None where all pass; a process of its own runs them."""
    path = copy / "lexiseg" / mutation.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(mutation.old, mutation.new), encoding="utf-8")
    log = copy / "log"
    try:
        child = os.fork()
        if child == 0:
            _run(mutation, copy, log)
        _, status = os.waitpid(child, 0)
    finally:
        path.write_text(whole, encoding="utf-8")
    told = log.read_text(encoding="utf-8", errors="replace")
    if os.waitstatus_to_exitcode(status) == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", told, re.MULTILINE)
    if not failed:
        raise RuntimeError(f"{mutation.what}: the tests did not run\n{told[-3000:]}")
    return failed[1].removeprefix("tests/")


def _run(mutation: Mutation, copy: Path, log: Path) -> None:
    """Ends the process with pytest's exit code."""
    code = 99
    try:
        with log.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = str(copy)
        tests = [f"{ROOT / 'tests' / each}" for each in mutation.tests]
        options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
        found = int(pytest.main([*options, *tests]))
        source = getattr(sys.modules.get("lexiseg"), "__file__", "")
        code = found if source.startswith(str(copy)) else code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(words: list[str]) -> int:
    """The number of mutations that no test noticed."""
    chosen = [m for m in MUTATIONS if not words or any(word in m.file for word in words)]
    missed = 0
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("assets", "__pycache__")
        shutil.copytree(ROOT / "src" / "lexiseg", copy / "lexiseg", ignore=ignored)
        (copy / "lexiseg" / "assets").symlink_to(ROOT / "src" / "lexiseg" / "assets")
        for mutation in chosen:
            test = noticed_by(mutation, copy)
            missed += test is None
            print(f"{mutation.what} ({mutation.file}): {test or 'NOT NOTICED'}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} noticed")
    return missed


if __name__ == "__main__":
    import einops  # noqa: F401  what every child would have to load again
    import PIL.Image  # noqa: F401
    import torch  # noqa: F401

    sys.exit(bool(main(sys.argv[1:])))
