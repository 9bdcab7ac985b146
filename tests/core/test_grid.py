"An image lies where its coordinates say; what does not say where it lies is refused."
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers the .rio accessor)
from rasterio.crs import CRS

from enmap_sharpener.core.errors import GridError, RequestError
from enmap_sharpener.core.grid import Axis, Grid, as_image

GRID = Grid(CRS.from_epsg(32633), Axis(-5_806_125.0, 30.0, 12), Axis(366_015.0, 30.0, 17))


@pytest.fixture
def image():
    return GRID.georeference(np.arange(2 * 12 * 17, dtype="float32").reshape(2, 12, 17))


@pytest.mark.parametrize("take, rows, cols", [
    (lambda i: i[:, 2:5, 3:4], Axis(-5_806_065.0, 30.0, 3), Axis(366_105.0, 30.0, 1)),
    (lambda i: i[:, ::3, 1::2], Axis(-5_806_155.0, 90.0, 4), Axis(366_030.0, 60.0, 8)),
    (lambda i: i.coarsen(y=4, x=4, boundary="trim").mean(), Axis(-5_806_125.0, 120.0, 3), Axis(366_015.0, 120.0, 4)),
    (lambda i: i.interp(y=np.arange(5_806_120, 5_805_800, -10.0), x=np.arange(366_020, 366_400, 10.0)), Axis(-5_806_125.0, 10.0, 32), Axis(366_015.0, 10.0, 38)),
    (lambda i: i.assign_coords(x=i.x.astype("float32"), y=i.y.astype("float32")), GRID.rows, GRID.cols),
    (lambda i: i.drop_vars(["x", "y"]), GRID.rows, GRID.cols),
    (lambda i: i.rio.write_crs("EPSG:25833"), GRID.rows, GRID.cols),
    (lambda i: i.rename(y="latitude", x="longitude"), GRID.rows, GRID.cols),
], ids=["part", "every other", "coarser", "finer", "single precision", "no coordinates", "ETRS89", "other names"])
def test_it_lies_where_its_coordinates_say(image, take, rows, cols):
    assert Grid.of(take(image)) == Grid(GRID.crs, rows, cols)


@pytest.mark.parametrize("spoil, words", [
    (lambda i: i[:, ::-1], r"south-up grid \(30.0, .*image.sortby\('y', ascending=False\)"),
    (lambda i: i[:, :, ::-1], "wanted north-up"),
    (lambda i: i[:, [0, 1, 2, 5]], "coordinates y are not evenly spaced .5806110, 5806080, 5806050, 5805960.; wanted every pixel"),
    (lambda i: i.assign_coords(x=i.x.where(i.x != i.x[4])), "coordinates x are not evenly spaced"),
    (lambda i: i.assign_coords(x=i.x * 0), "coordinates x are not evenly spaced|wanted north-up"),
    (lambda i: i.transpose("y", "x", "band"), r"its dims are y, x, band; wanted y and x last: image.transpose\(..., 'y', 'x'\)"),
    (lambda i: i.transpose("band", "x", "y"), "its dims are band, x, y"),
    (lambda i: i.rename(y="a", x="b"), "does not say where its pixels lie"),
    (lambda i: i.drop_vars("spatial_ref"), "no coordinate reference system"),
    (lambda i: i.values, "ndarray: does not say where its pixels lie"),
])
def test_what_does_not_say_where_it_lies(image, spoil, words):
    with pytest.raises(GridError, match=words):
        Grid.of(spoil(image))


def test_what_is_an_image(image):
    assert as_image(image) is image and as_image(image.values.astype("int16")).dims == ("band", "y", "x")
    for other in (None, 3, [image], image.values[0], image.values.astype(str)):
        with pytest.raises(RequestError, match="is no image; wanted a DataArray or an array of numbers, shape .band, y, x."):
            as_image(other)
