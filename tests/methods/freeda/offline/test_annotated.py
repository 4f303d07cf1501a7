from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.methods.freeda.bank import BankError, BankKind, PrototypeBank
from lexiseg.methods.freeda.offline.annotated import (
    Picture,
    Region,
    add_pictures,
    mask_of_box,
    mask_of_click,
    open_for,
)
from tests.methods.freeda.offline.tiny_encoders import Colours

PIECES = np.zeros((8, 8), np.uint16)
PIECES[2:6, 2:6] = 1  # in the middle
PIECES[2:6, 6:] = 2


def test_a_box_takes_the_superpixels_that_lie_in_it() -> None:
    mask = mask_of_box(PIECES, (1.0, 1.0, 7.0, 7.0))
    np.testing.assert_array_equal(mask, PIECES == 1)
    with_half_of_the_other = mask_of_box(PIECES, (1.0, 1.0, 7.2, 7.0))  # now all of it
    np.testing.assert_array_equal(with_half_of_the_other, PIECES > 0)


def test_a_box_without_a_superpixel_is_taken_whole() -> None:
    mask = mask_of_box(PIECES, (0.0, 0.0, 2.0, 2.0))
    assert (mask.sum(), mask[:2, :2].all()) == (4, True)
    assert mask_of_box(PIECES, (-5.0, -5.0, 100.0, 100.0)).all()


@pytest.mark.parametrize("box", [(4, 4, 4, 6), (6, 2, 4, 4), (9, 9, 12, 12)])
def test_a_box_without_a_pixel_is_told(box: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"has no pixel of a picture of 8 x 8"):
        mask_of_box(PIECES, tuple(map(float, box)))


def test_a_click_takes_the_superpixel_below_it() -> None:
    np.testing.assert_array_equal(mask_of_click(PIECES, (6.9, 2.0)), PIECES == 2)
    with pytest.raises(ValueError, match="at x 8.0, y 1.0 lies outside of a picture of 8 x 8"):
        mask_of_click(PIECES, (8.0, 1.0))


def picture(names: tuple[str, ...] = ("tractor", "farm tractor")) -> Picture:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = (255, 0, 0)
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    return Picture(image, (Region(names, mask), Region(("sky",), ~mask)), "a.jpg")


def test_pictures_begin_a_bank_and_add_to_it(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    assert add_pictures(path, [picture()], Colours()) == 3
    assert add_pictures(path, [picture(("plough",))], Colours()) == 2
    bank = PrototypeBank.open(path)
    assert bank.words == ["tractor", "farm tractor", "sky", "plough", "sky"]
    red, black = torch.tensor([1.0, 0, 0]), torch.zeros(3)
    torch.testing.assert_close(
        bank.prototypes.float()[[0, 1, 2]], torch.stack([red, red, black]), atol=1e-3, rtol=0
    )
    record = next(bank.records())
    assert (record.source, record.caption, record.seed) == ("a.jpg", "", None)
    torch.testing.assert_close(bank.keys[0].float().norm(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_all_of_the_pictures_or_none(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    empty = Picture(picture().image, (Region(("x",), np.zeros((8, 8), bool)),), "b.jpg")
    with pytest.raises(ValueError, match=r"b\.jpg: the mask of 'x' is empty"):
        add_pictures(path, [picture(), empty], Colours())
    with pytest.raises(ValueError, match="nothing to add"):
        add_pictures(path, [], Colours())
    assert not path.exists()


def test_a_bank_of_other_encoders_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    add_pictures(path, [picture()], Colours())
    other = Colours(BankKind("letters", "other colours", "mean"))
    with pytest.raises(ValueError, match="was made by letters and colours, but letters and other"):
        open_for(path, other)
    with pytest.raises(BankError, match="image_encoders cannot be joined"):
        add_pictures(path, [picture()], other)
    assert len(open_for(path, Colours())) == 3
