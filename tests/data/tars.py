"""Tar shards made for tests, and what is read from them."""

import io
import itertools
import os
import tarfile

from PIL import Image

from lexiseg.data.captions import read_captions

CLOCK = itertools.count(10**18)


def picture(colour, kind="PNG", size=(12, 10)):
    """The bytes of a picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def write_tar(path, members, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    os.utime(
        path, ns=(0, next(CLOCK))
    )  # two tars made in one tick of the real clock may be as long
    return path


def listed(source, **arguments):
    """Name, caption and first pixel of every pair."""
    dataset = read_captions(source, **arguments)
    return [(s.name, s.caption, tuple(s.image[0, 0].tolist())) for s in dataset]
