import multiprocessing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lexiseg.superpixels as module
from lexiseg.superpixels import SuperpixelCache, crop_superpixels, patch_ids, superpixels
from tests.parity import SOURCES, cases

FREEDA = {
    "voc20": (100.0, 0.7, 20),
    "context59_ade": (100.0, 1.0, 20),
    "stuff": (100.0, 1.0, 100),
    "cityscapes": (20.0, 0.5, 50),
    "default_string": (600.0, 0.8, 400),
}


@pytest.fixture
def image():
    """Three bands, red, green and blue, of 8, 8 and 4 rows."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:8, :, 0] = pixels[8:16, :, 1] = pixels[16:, :, 2] = 255
    return pixels


@pytest.fixture
def computed(monkeypatch):
    """The sizes of the images whose superpixels were computed."""
    sizes = []

    def counting(image, **parameters):
        sizes.append(image.shape[:2])
        return superpixels(image, **parameters)

    monkeypatch.setattr(module, "superpixels", counting)
    return sizes


@pytest.mark.parametrize(("source", "index"), [("compact", 0), ("full", 0), ("full", 1)])
def test_segclip_parity_superpixels_of_photographs(source, index):
    case = cases("segclip", source).open("train_2.npz")
    ids = superpixels(case[f"photo{index}_uint8"])
    np.testing.assert_array_equal(ids, case[f"superpixels{index}"])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("index", [0, 1])
def test_segclip_parity_superpixels_of_patches(source, index):
    case = cases("segclip", source).open("train_2.npz")
    whole = case[f"superpixels{index}"].astype(np.uint16)
    for box, expected in (
        (tuple(case["coord"][index].tolist()), case["superpixel_patch_ids"][index]),
        ((0.0, 0.0, 1.0, 1.0), case[f"superpixel_patch_ids_whole{index}"]),
    ):
        cropped = crop_superpixels(whole, box, (224, 224))
        np.testing.assert_array_equal(patch_ids(cropped, (14, 14), "published"), expected)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("config", FREEDA)
def test_freeda_parity_superpixels(source, config):
    case = cases("freeda", source).open("superpixels.npz")
    scale, sigma, min_size = FREEDA[config]
    ids = superpixels(case["image_rgb"], scale=scale, sigma=sigma, min_size=min_size)
    case.check(f"labels_{config}", ids, absolute=0)


def test_bands_are_superpixels_until_they_are_too_small(image):
    ids = superpixels(image, scale=1.0, sigma=0.0, min_size=1)
    assert ids.dtype == np.uint16
    assert [np.unique(band).size for band in (ids[:8], ids[8:16], ids[16:], ids)] == [1, 1, 1, 3]
    assert np.unique(superpixels(image, scale=1.0, sigma=0.0, min_size=150)).size == 2


def test_too_many_superpixels_cannot_be_numbered():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match=r"\(300, 300\) has \d+ superpixels; at most 65536.*raise"):
        superpixels(image, scale=1e-6, sigma=0.0, min_size=0)


@pytest.mark.parametrize(
    "wrong", [{"scale": 0.0}, {"sigma": -1.0}, {"min_size": -1}, {"scale": np.nan}]
)
def test_parameters_out_of_range_are_refused(image, tmp_path, wrong):
    with pytest.raises(ValueError, match="scale is above 0, sigma and min_size are 0 or above"):
        superpixels(image, **wrong)
    with pytest.raises(ValueError, match="scale is above 0"):
        SuperpixelCache(tmp_path, **wrong)


def test_the_same_image_is_computed_once(image, computed, tmp_path):
    cache = SuperpixelCache(tmp_path / "kept", min_size=10)
    first = cache(image)
    again = SuperpixelCache(tmp_path / "kept", min_size=10)(np.asfortranarray(image))
    assert computed == [(20, 30)]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, superpixels(image, min_size=10))
    assert [p.suffix for p in (tmp_path / "kept").rglob("*") if p.is_file()] == [".npz"]


def test_other_pixels_shapes_and_parameters_are_other_files(image, computed, tmp_path):
    cache = SuperpixelCache(tmp_path)
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    tall = image.reshape(30, 20, 3)
    paths = {cache.path(pixels) for pixels in (image, changed, tall)}
    for parameters in ({"scale": 100.0}, {"sigma": 0.8}, {"min_size": 20}):
        paths.add(SuperpixelCache(tmp_path, **parameters).path(image))
    assert len(paths) == 6
    assert SuperpixelCache(tmp_path, scale=224.0).path(image) == cache.path(image)
    assert cache(tall).shape == (30, 20)
    assert cache(image).shape == (20, 30)
    assert computed == [(30, 20), (20, 30)]


def test_more_than_256_superpixels_come_back_the_same(computed, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    cache = SuperpixelCache(tmp_path, scale=0.01, sigma=0.0, min_size=1)
    first = cache(image)
    assert first.max() > 255
    np.testing.assert_array_equal(cache(image), first)
    assert len(computed) == 1


def test_damaged_files_are_computed_again(image, computed, tmp_path):
    cache = SuperpixelCache(tmp_path, min_size=10)
    expected, path = cache(image), cache.path(image)
    whole = path.read_bytes()
    generator = np.random.default_rng(2)
    damaged = [b"", b"no zip", whole[:-30], whole[: len(whole) // 2]]
    for _ in range(60):
        changed = bytearray(whole)
        changed[generator.integers(len(whole))] ^= 1 << int(generator.integers(8))
        damaged.append(bytes(changed))
    for content in damaged:
        path.write_bytes(content)
        np.testing.assert_array_equal(cache(image), expected)
    assert len(computed) > len(damaged) / 2
    with path.open("wb") as file:
        np.savez_compressed(file, ids=np.zeros((5, 5), np.uint8))
    np.testing.assert_array_equal(cache(image), expected)
    assert path.read_bytes() == whole


def fill(folder, seed, queue):
    """What one of several processes does: the same images in its own order."""
    cache = SuperpixelCache(folder, min_size=10)
    total = 0
    for index in np.random.default_rng(seed).permutation(12):
        pixels = np.random.default_rng(index).integers(0, 256, (24, 24, 3)).astype(np.uint8)
        total += int((index + 1) * cache(pixels).sum())
    queue.put(total)


def test_processes_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=fill, args=(tmp_path, seed, queue)) for seed in (0, 1)]
    for process in processes:
        process.start()
    totals = {queue.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    fill(tmp_path / "alone", 5, queue)
    assert totals == {queue.get(timeout=10)}
    files = list(tmp_path.glob("??/*"))
    assert len(files) == 12
    assert {path.suffix for path in files} == {".npz"}


def test_nothing_is_left_where_a_file_cannot_be_written(image, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        SuperpixelCache(tmp_path)(image)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_crop_reaches_outwards_and_takes_the_nearest_pixel():
    ids = np.arange(40, dtype=np.uint16).reshape(4, 10)
    # Columns floor(1.9) to ceil(4.1), rows floor(0.8) to ceil(2.4).
    np.testing.assert_array_equal(
        crop_superpixels(ids, (0.19, 0.2, 0.41, 0.6), (3, 4)), ids[0:3, 1:5]
    )
    np.testing.assert_array_equal(
        crop_superpixels(ids, (0.0, 0.0, 0.4, 0.5), (4, 2)), ids[:2, :4][[0, 0, 1, 1]][:, [0, 2]]
    )
    whole = crop_superpixels(ids, (0.0, 0.0, 1.0, 1.0), (4, 10))
    np.testing.assert_array_equal(whole, ids)
    # One column only: SegCLIP takes the whole map.
    np.testing.assert_array_equal(crop_superpixels(ids, (0.2, 0.0, 0.3, 1.0), (4, 10)), whole)
    np.testing.assert_array_equal(crop_superpixels(ids, (0.0, 0.0, 0.0, 0.0), (4, 10)), whole)


@pytest.mark.parametrize(
    "box",
    [(0.5, 0.0, 0.4, 1.0), (-0.1, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.1), (np.nan, 0.0, 1.0, 1.0)],
)
def test_a_box_outside_the_photograph_is_refused(box):
    with pytest.raises(ValueError, match="crop box .* 0 <= x0 <= x1 <= 1"):
        crop_superpixels(np.zeros((4, 4), np.uint16), box, (2, 2))


def test_rules_of_a_patch_by_hand():
    ids = np.array(
        [
            [7, 7, 2, 2, 9],
            [7, 3, 2, 3, 9],
            [0, 9, 5, 5, 9],
            [9, 9, 4, 4, 9],
        ],
        np.uint16,
    )[:, :4]
    # Most of the pixels; 4 and 5 have two each: the lower.
    assert patch_ids(ids, (2, 2)).tolist() == [[7, 2], [9, 4]]
    # (7+7+7+3)/4 = 6, (2+2+2+3)/4 = 2.25, (0+9+9+9)/4 = 6.75, (5+5+4+4)/4 = 4.5.
    assert patch_ids(ids, (2, 2), "published").tolist() == [[6, 2], [6, 4]]


@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99)
)
def test_majority_equals_counting(rows, columns, height, width, seed):
    ids = np.random.default_rng(seed).integers(0, 6, (rows * height, columns * width))
    ids = (ids * 1000).astype(np.uint16)
    found = patch_ids(ids, (rows, columns))
    for row in range(rows):
        for column in range(columns):
            patch = ids[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert found[row, column] == np.bincount(patch.ravel()).argmax()


def test_a_grid_that_does_not_fit_is_refused():
    ids = np.zeros((6, 6), np.uint16)
    for grid in ((4, 3), (3, 4), (0, 3)):
        with pytest.raises(ValueError, match="the grid must divide them"):
            patch_ids(ids, grid)
