"Results of every format are found beside a scene and in a folder of results."
import pytest

import enmap_sharpener as es
from enmap_sharpener.evaluation.cases import find_cases
from enmap_sharpener.exploration.scene_views import open_sources


@pytest.mark.parametrize("name", ["a.tif", "a.img", "a.nc", "a.zarr"])
def test_results_of_every_format_are_found(tmp_path, name):
    paths = es.simulate(tmp_path / "case", size=20, seed=1)
    scene, guide = es.read_enmap(paths.enmap), es.read_sentinel2(paths.sentinel2)
    files = es.write_scene(es.sharpen(scene, guide, "cubic", bands="10-50"), tmp_path / "results" / name, scene=scene, guide=guide)
    (case,) = find_cases([tmp_path / "case"])
    for place in (tmp_path / "results", files["data"]):
        assert {"EnMAP", "a", "truth"} <= set(open_sources(case, place).layers)
