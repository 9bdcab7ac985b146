"Each job of the package, run through `batch` on a tiny scene."
import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pystac
import pytest
from readme import ROOT

pytest.importorskip("papermill", reason="needs the extra `batch`")

from enmap_sharpener.batch.clusters import local_workers  # noqa: E402
from enmap_sharpener.batch.jobs import GIVEN, job_files, open_job  # noqa: E402
from enmap_sharpener.batch.runner import job_results, run_batch  # noqa: E402
from enmap_sharpener.preprocessing.tile_store import write_wald_store  # noqa: E402
from enmap_sharpener.scenes.cubes import read_cube  # noqa: E402
from enmap_sharpener.simulation.scene import simulate, simulate_pair  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A case with its truth, in a folder of its name."
    folder = tmp_path_factory.mktemp("jobs")
    simulate(folder / "case", size=20, seed=1)
    return folder


@pytest.fixture(scope="module")
def client():
    with local_workers(workers=1, threads=1) as client:
        yield client


@pytest.fixture
def run(place, client):
    return lambda job, scenes, **parameters: _run(client, job, scenes, place, **parameters)


def _run(client, job, scenes, place, **parameters):
    "The folder of the only scene, its notebook, and its row of the table; it must have worked."
    report = run_batch(job, scenes, place / "runs", parameters, cluster=nullcontext(client))
    assert [o.state for o in report.outcomes] == ["done"], report.outcomes[0].note
    folder = report.page.parent / report.outcomes[0].scene
    notebook = nbformat.read(folder / f"{job}.ipynb", as_version=4)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert not [o for o in outputs if o.get("name") == "stderr"] and str(place) not in str(notebook)
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= (2 if job != "train" else 1)
    assert (folder / "thumbnail.png").exists() and f"{folder.name}/thumbnail.png" in report.page.read_text()
    return folder, job_results(report.page.parent).iloc[0]


@pytest.mark.slow
def test_sharpen(place, run):
    product = next((place / "case").glob("ENMAP*"))
    folder, row = run("sharpen", product, method="cubic", bands="1-40")
    cube = read_cube(folder / f"{product.name}.tif")
    assert cube.shape == (40, row.rows, row.columns) and row.bands == 40 and row.agreement > 0
    assert (folder / f"{product.name}.json").exists() and (folder / f"{product.name}_quality.tif").exists()
    catalogue = folder.parent / "stac" / "catalog.json"
    (item,) = pystac.Catalog.from_file(str(catalogue)).get_items(recursive=True)
    assert item.id == product.name and item.collection_id == "enmap-sharpened" and str(place) not in catalogue.read_text() + Path(item.get_self_href()).read_text()
    assert (item.get_collection().license, len(item.get_collection().providers)) == ("other", 3)
    client = pytest.importorskip("pystac_client").Client.open(str(catalogue))
    (found,) = client.get_items(recursive=True)
    loaded = pytest.importorskip("odc.stac").load([found], bands=["blue"])
    assert loaded.blue.shape[1:] == cube.shape[1:]


@pytest.mark.slow
@pytest.mark.parametrize("form, ending", [("cog", ".tif"), ("zarr", ".zarr")])
def test_sharpen_into_another_format(place, client, tmp_path, form, ending):
    product, values = next((place / "case").glob("ENMAP*")), {"method": "cubic", "bands": "1-40", "format": form}
    for state in ("done", "there already"):
        report = run_batch("sharpen", product, tmp_path, values, cluster=nullcontext(client))
        assert [o.state for o in report.outcomes] == [state], report.outcomes[0].note
    assert read_cube(report.page.parent / product.name / f"{product.name}{ending}").sizes["band"] == 40 and job_results(report.page.parent).iloc[0].MB > 0


@pytest.mark.slow
def test_evaluate(place, run):
    folder, row = run("evaluate", place / "case", methods="[bilinear, cubic]")
    assert row["psnr cubic"] > 10 and {"psnr bilinear", "sam_land cubic", "HQNR cubic"} <= set(row.index)
    assert all((folder / name).exists() for name in ("case/cubic.tif", "case/cubic.scores.json", "scores.csv", "scores.tex"))


@pytest.fixture
def keras():
    return pytest.importorskip("keras", reason="needs Keras: the extra `cpu` or `gpu`")


@pytest.mark.slow
def test_train(place, run, keras):
    (place / "stores").mkdir()
    write_wald_store(*simulate_pair((40, 40), seed=3)[:2], place / "stores/a.zarr", tile=12, stride=12)
    write_wald_store(*simulate_pair((30, 30), seed=4)[:2], place / "stores/b.zarr", tile=12, stride=12, split=1)
    folder, row = run("train", place / "stores", epochs=1, batch_size=2, spectral_window=12)
    assert row.epochs == 1 and row.val_loss > 0 and row.parameters > 1000
    assert json.loads((folder / "network.json").read_text())["recipe"]["spectral_window"] == 12
    assert all((folder / f"network.{kind}").exists() for kind in ("keras", "csv", "png"))


@pytest.mark.slow
def test_insights(place, run, keras):
    from networks import network

    from enmap_sharpener.model.supermapnet import save_model
    net = network()
    save_model(net, place / "net.keras")
    folder, row = run("insights", next((place / "case").glob("ENMAP*")), model=place / "net.keras")
    assert row.parameters == net.count_params() and 0 <= row["most like an operator"] <= 1
    assert {p.name for p in folder.glob("*.csv")} == {"bands.csv", "kernels.csv"} and len(list(folder.glob("*.png"))) == 9


# The notebooks as they are in the repository

@pytest.fixture(params=sorted(job_files().values()), ids=lambda path: path.stem)
def path(request):
    return request.param


def test_declared(path):
    "Every parameter has a type and a comment; nothing but parameters is in their cell, and nothing is exported."
    job = open_job(path)
    assert set(GIVEN) <= set(job.arguments) and job.title.endswith(".")
    assert all(argument.help and argument.kind for argument in job.arguments.values())
    notebook = nbformat.read(path, as_version=4)
    cell, = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    assert len(cell.source.splitlines()) == len(job.arguments) and all("#" in line for line in cell.source.splitlines())
    assert not any(re.search(r"^#\|", c.source, re.MULTILINE) for c in notebook.cells) and f"batch {path.stem} --scenes" in notebook.cells[0].source


def test_without_outputs(path):
    "They are templates; what they show is shown by a run."
    notebook = nbformat.read(path, as_version=4)
    assert not any(c.get("outputs") or c.get("execution_count") for c in notebook.cells) and notebook.metadata.kernelspec.name == "python3"


def test_found_in_the_repository():
    assert {p.stem for p in job_files().values()} >= {"train", "sharpen", "evaluate", "insights"}
    assert all(p.parent == ROOT / "nbs/jobs" for p in job_files().values()) and Path(ROOT / "nbs/jobs/.notest").exists()


# Products as they come

@pytest.mark.slow
def test_sharpen_of_an_archive_with_its_partner_named(place, client, run, tmp_path):
    product = next((place / "case").glob("ENMAP*"))
    shutil.copytree(product, tmp_path / "dims" / product.name, ignore=shutil.ignore_patterns("sentinel2"))
    shutil.make_archive(str(place / "order/one"), "zip", tmp_path / "dims")
    folder, _ = run("sharpen", place / "order/one.zip", method="cubic", bands="1-3", sentinel2=product / "sentinel2", sentinel2_offset="0")
    assert (folder / "one.tif").exists()
    shutil.make_archive(str(place / "order/two"), "zip", tmp_path / "dims")
    report = run_batch("sharpen", place / "order/two.zip", place / "runs", {"method": "cubic"}, cluster=nullcontext(client))
    assert [o.state for o in report.outcomes] == ["failed"] and report.outcomes[0].note.startswith("ProductError: two.zip: its partner is missing, there is no ") and ".." not in report.outcomes[0].note


@pytest.mark.slow
def test_sharpen_of_a_strip(client, tmp_path):
    "Two tiles of a datatake, with Sentinel-2 beside them, as one image, under its own name, in the catalogue."
    from dataclasses import replace

    from enmap_sharpener.preprocessing.crop import cropped
    from enmap_sharpener.scenes.enmap import read_enmap, write_enmap
    paths = simulate(tmp_path / "made", size=(30, 20), seed=1, truth=False, rotation=0)
    scene = read_enmap(paths.enmap)
    for n, rows in ((1, slice(0, 18)), (2, slice(12, 30))):
        part = cropped(scene, rows, slice(0, 20))
        write_enmap(tmp_path / "tiles", part.cube, part.bands, scene_id=scene.metadata.id.replace("_001_V", f"_{n:03d}_V"), metadata=replace(part.metadata, footprint=()), quality=part.quality)
    shutil.move(paths.sentinel2, tmp_path / "tiles/sentinel2")
    report = run_batch("sharpen", tmp_path / "tiles/*", tmp_path / "runs", {"method": "cubic", "bands": "1-3"}, strip=True, cluster=nullcontext(client))
    (name, state, _, note), = report.outcomes
    assert state == "done" and "_000_V" in name, note
    assert read_cube(report.page.parent / name / f"{name}.tif").shape == (3, 91, 61)
    (item,) = pystac.Catalog.from_file(str(report.page.parent / "stac/catalog.json")).get_items(recursive=True)
    assert item.id == name and len([link for link in item.links if link.rel == "derived_from"]) == 3
