import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import shape

from lexiseg.outputs.geojson import geojson
from lexiseg.result import Segmentation


def painted(geometry: shapely.Geometry, size: tuple[int, int], transform=(1, 0, 0, 0, 1, 0)):
    """True where the middle of a pixel, taken where the transform takes it, is inside."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    a, b, c, d, e, f = transform
    return shapely.contains_xy(geometry, a * x + b * y + c, d * x + e * y + f)


@pytest.mark.parametrize("transform", [None, (0.5, 0, 8.0, 0, -0.25, 50.0), (0, 2, 1, 3, 0, 2)])
def test_shapely_reads_the_masks_back(
    transform: tuple[float, ...] | None, result: Segmentation, tmp_path: Path
) -> None:
    result.save(tmp_path / "a.geojson", transform=transform)
    record = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert record["type"] == "FeatureCollection"
    assert [each["properties"]["label"] for each in record["features"]] == ["one", "zwei 二"]
    for feature in record["features"]:
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        for polygon in geometry.geoms:  # RFC 7946, 3.1.6
            assert polygon.exterior.is_ccw
            assert not any(hole.is_ccw for hole in polygon.interiors)
        found = painted(geometry, (17, 23), transform or (1, 0, 0, 0, 1, 0))
        np.testing.assert_array_equal(found, result.mask(feature["properties"]["label"]))
        assert feature["properties"]["share"] == pytest.approx(found.mean(), abs=1e-6)
    one, two = (shape(feature["geometry"]) for feature in record["features"])
    assert (len(one.geoms), len(one.geoms[0].interiors), len(two.geoms)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ((1, 2), "give six finite numbers"),
        ((1, 0, float("nan"), 0, 1, 0), "give six finite numbers"),
        ((1, 2, 0, 2, 4, 0), "flattens the picture"),
    ],
)
def test_a_transform_that_is_none(
    transform: tuple[float, ...], message: str, result: Segmentation, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        result.save(tmp_path / "a.geojson", transform=transform)
    assert not list(tmp_path.iterdir())


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_any_mask_is_valid_and_exact(height: int, width: int, seed: int) -> None:
    label_map = np.random.default_rng(seed).integers(0, 2, (height, width)).astype(np.uint8)
    result = Segmentation(("a", "b"), label_map, np.ones((height, width), np.float32))
    for feature in json.loads(geojson(result))["features"]:
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        expected = label_map == feature["properties"]["index"]
        np.testing.assert_array_equal(painted(geometry, (height, width)), expected)
