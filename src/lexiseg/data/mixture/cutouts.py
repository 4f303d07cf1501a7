"""Photographed objects with an exact opacity map, pasted onto other photographs."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lexiseg.data import augment
from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.json_files import read_text_rows
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.images import read_image

MOST_CUTOUTS = 2  # on one picture


class Cutouts:
    """Objects with an exact opacity map, for pasting: ROOT/cutouts.json, {image, alpha, name}.

    Args:
        root: the folder.
        held_out: names that are left out.
    """

    def __init__(self, root: Path, held_out: Container[str] = ()) -> None:
        listed = read_text_rows(root / "cutouts.json", "image", "alpha", "name")
        self.rows = [
            (root / image, root / alpha, name)
            for image, alpha, name in listed
            if name not in held_out
        ]
        self.names = tuple(sorted({name for _, _, name in self.rows}))

    def paste(
        self,
        image: np.ndarray,
        label_maps: tuple[np.ndarray, ...],
        class_names: Sequence[str],
        generator: np.random.Generator,
        distractors: int = 16,
        synonyms: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[str, ...]]:
        """One or two objects on the picture; their names and some absent ones join the classes.

        The first label map gets their ids; the others ignore them. An object that the picture's
        own classes call by a synonym goes by their word, and no absent name is a synonym of one.
        """
        names = list(class_names)
        if len(names) + MOST_CUTOUTS > IGNORE_INDEX:
            label_maps = tuple(map(augment.widen, label_maps))
        ignored = tuple(augment.ignored_id(label_map) for label_map in label_maps[1:])
        for _ in range(int(generator.integers(1, MOST_CUTOUTS + 1))):
            cutout_path, alpha_path, name = self.rows[int(generator.integers(len(self.rows)))]
            name = next((n for n in names if name in synonyms.get(n, ())), name)
            if name not in names:
                names.append(name)
            image, label_maps = augment.paste_cutout(
                image,
                label_maps,
                cutout=read_image(cutout_path),
                alpha=read_image(alpha_path)[..., 0],
                class_ids=(names.index(name), *ignored),
                share=(0.25, 0.9),
                generator=generator,
            )
        said = {word for name in names for word in (name, *synonyms.get(name, ()))}
        absent = [n for n in generator.permutation(self.names)[:distractors] if n not in said]
        return image, label_maps, (*names, *map(str, absent))

    def fingerprint(self) -> list[str]:
        """Names, sizes and dates of each object's files, and its name."""
        files = FileDigests()
        return [repr([files.stamp(p) for p in row[:2]] + [row[2]]) for row in self.rows]
