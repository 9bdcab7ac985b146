"Cubes made of numbers, files of them, and figures of them: what tests of scores and of pictures share."
import io

import matplotlib as mpl
import numpy as np
import rasterio
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rasterio.transform import from_origin
from scipy.ndimage import gaussian_filter

from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.evaluation.agreement import observation_inside

WAVELENGTH = np.linspace(420, 2450, 12)


def pair(bands=12, ny=40, nx=53, seed=0, nodata=True):
    """An output and a truth, (band, y, x) float32, non-square; with nodata in two corners."""
    rng = np.random.default_rng(seed)
    t = gaussian_filter(rng.random((bands, ny, nx)), (0, 2, 2)) * rng.uniform(0.2, 1, (bands, 1, 1)) + 0.05
    o = t + 0.01 * rng.standard_normal(t.shape)
    if nodata:
        o[:, :6, :9] = t[:, -5:, -7:] = np.nan
    return o.astype("f4"), t.astype("f4")


def cube(values, wavelength=None, x0=366000.0, y0=5806000.0, step=10.0, crs=32633):
    """Numbers as an image of 10 m in zone 33, with wavelengths."""
    wavelength = np.linspace(420, 2450, len(values)) if wavelength is None else wavelength
    coords = {"band": np.arange(1, len(values) + 1), "wavelength": ("band", wavelength),
              "y": y0 - step * (np.arange(values.shape[1]) + 0.5), "x": x0 + step * (np.arange(values.shape[2]) + 0.5)}
    transform = from_origin(x0, y0, step, step)
    return xr.DataArray(values, coords, ("band", "y", "x")).rio.write_crs(crs).rio.write_transform(transform)


def random_cube(bands=20, ny=30, nx=47, step=10.0, low=420, high=2450, x0=366000.0, y0=5806000.0, seed=0, **coords):
    """Random reflectance as an image of 10 m in zone 33, with wavelengths."""
    values = np.random.default_rng(seed).random((bands, ny, nx), "f4") * 0.4
    coords = {"wavelength": ("band", np.linspace(low, high, bands)), "band": np.arange(1, bands + 1), **coords}
    coords |= {"y": y0 - step * (np.arange(ny) + 0.5), "x": x0 + step * (np.arange(nx) + 0.5)}
    image = xr.DataArray(values, coords, ("band", "y", "x"))
    return image.rio.write_crs(32633).rio.write_transform(from_origin(x0, y0, step, step))


def write(path, values, wavelength, transform, dtype="int16", tags="wavelength", crs="EPSG:32633", driver="GTiff", **options):
    """A raster with wavelengths in one of the ways that occur."""
    data = np.where(np.isfinite(values), np.rint(values * 1e4) if dtype == "int16" else values, -32768).astype(dtype)
    with rasterio.open(path, "w", driver=driver, count=len(data), height=data.shape[1], width=data.shape[2], dtype=dtype, nodata=-32768,
                       crs=crs, transform=transform, **options) as f:
        f.write(data)
        for i, w in enumerate(wavelength, 1):
            if tags == "wavelength":
                f.update_tags(i, wavelength=str(w), wavelength_units="Nanometers", fwhm="8.5")
            elif tags == "micrometres":
                f.update_tags(i, wavelength=str(w / 1000))
            elif tags == "imagery":
                f.update_tags(i, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(w / 1000), FWHM_UM="0.0085")
    return path


def made_up_observation():
    """A truth, what EnMAP would see of it, and the geometry of that."""
    truth = cube(pair(ny=60, nx=75, nodata=False)[1], WAVELENGTH)
    fine = Grid.of(truth)
    coarse = Grid(fine.crs, Axis(fine.rows.start - 15, 30, 21), Axis(fine.cols.start + 15, 30, 24))
    geometry = {"VNIR": {"shift": [0.1, -0.2], "sigma": [0.45, 0.5]}, "SWIR": {"shift": [0.0, 0.2], "sigma": [0.5, 0.5]}}
    detector = np.where(WAVELENGTH < 1000, "VNIR", "SWIR")
    seen = np.full((12, 21, 24), np.nan, "f4")
    for name, g in geometry.items():
        operator, window = observation_inside(coarse, fine, g)
        seen[(detector == name).nonzero()[0][:, None, None], np.arange(21)[window[0]][:, None], np.arange(24)[window[1]]] = operator.degrade(
            truth.values[detector == name])
    coords = {"band": np.arange(1, 13), "wavelength": ("band", WAVELENGTH), "detector": ("band", detector)}
    return truth, coarse.georeference(seen, coords=coords), geometry


def drawn(figure) -> bytes:
    """A figure as PNG; nothing is left that pyplot would have to close."""
    assert isinstance(figure, Figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    assert figure.canvas.manager is None
    return file.getvalue()


def texts(figure) -> str:
    """All texts of a figure."""
    return " | ".join([t.get_text() for t in figure.findobj(mpl.text.Text)])


def overlapping(figure) -> list[tuple[str, str]]:
    "Pairs of visible texts that lie over one another."
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    ticks = [(*sorted(a.get_view_interval()), tick) for axes in figure.axes for a in (axes.xaxis, axes.yaxis) for tick in a.get_major_ticks()]
    hidden = {label for low, high, tick in ticks if not low <= tick.get_loc() <= high for label in (tick.label1, tick.label2)}
    hidden |= {t for a in figure.axes if not a.get_visible() for t in a.findobj(mpl.text.Text)}
    shown = [t for t in figure.findobj(mpl.text.Text) if t.get_text().strip() and t.get_visible() and t not in hidden]
    boxes = [(t.get_text(), t.get_window_extent(renderer).padded(-1)) for t in shown]
    return [(a, b) for i, (a, p) in enumerate(boxes) for b, q in boxes[:i] if p.overlaps(q)]
