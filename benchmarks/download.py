"""Scenes from a server on the loopback address, by `download_scenes` and by curl: seconds and their ratio, as a Markdown table.

    python benchmarks/download.py                       # 50 scenes of 12 files, 4 at once, five times each
    python benchmarks/download.py --scenes 10 --size 96

Both fetch the same files from the same server, in turn, and medians count. curl is one process for each of the workers, which keeps its
connection; it checks nothing, while ours makes sure that each file is what it should be, and that the scene can be read. The server is a process of its
own, that of the tests.

Two processors that three other programs shared, 50 scenes of 48 x 48 pixels, 600 files of 34 MB, 40 ms to the server; medians:

|what is done with each file|curl [s]|download_scenes [s]|ratio|
|---|--:|--:|--:|
|opened by xarray, one after the other|6.4|14.3|2.2|
|opened by xarray while others are fetched|6.7|10.5|1.5|
|read through too: every block decodes|6.3|9.9|1.6|
"""
import argparse
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fake_download import DownloadSite, as_delivered, found_scene, publish

from enmap_sharpener.scraping.bulk import download_scenes
from enmap_sharpener.scraping.transfer import Client
from enmap_sharpener.simulation.scene import simulate


def scenes_of(folder, count, size) -> dict:
    """The files of so many scenes, by scene: one simulated product under many names."""
    product = simulate(folder, size, 1, truth=False).enmap
    files = as_delivered(product)
    files[f"{product.name}-QL_VNIR_COG.TIF"] = files[f"{product.name}-QL_SWIR_COG.TIF"] = files[f"{product.name}-QL_QUALITY_SNOW_COG.TIF"]
    scenes = {}
    for number in range(1, count + 1):
        name = product.name.replace("DT0000000001", f"DT{number:010}")
        scenes[name] = {file.replace(product.name, name): body.replace(product.name.encode(), name.encode()) if file.endswith("XML") else body
                        for file, body in files.items()}
    return scenes


class FarSite(DownloadSite):
    """A server that is some milliseconds away."""

    latency = 0.0

    def respond(self, request, handler):
        time.sleep(self.latency)
        super().respond(request, handler)


def serve(scenes, latency, pipe):
    """A server that says where the scenes are, until it is told to end."""
    with FarSite(public=True) as site:
        site.latency = latency
        pipe.send((site.url, {name: publish(site, name, files) for name, files in scenes.items()}))
        pipe.recv()


def by_curl(assets, folder, workers):
    """Seconds that curl takes."""
    urls = [url for those in assets.values() for url in those.values()]
    lists = []
    for worker in range(workers):
        file = folder / f"{worker}.txt"
        file.write_text("".join(f'url = "{url}"\noutput = "{folder / urlsplit(url).path.rpartition("/")[2]}"\n' for url in urls[worker::workers]))
        lists.append(file)
    begin = time.perf_counter()
    for run in [subprocess.Popen(["curl", "--silent", "--fail", "--config", str(file)]) for file in lists]:
        assert run.wait() == 0
    return time.perf_counter() - begin


def by_us(url, assets, folder, workers):
    """Seconds that `download_scenes` takes."""
    begin = time.perf_counter()
    with Client(host=url, sso=url) as client:
        report = download_scenes([found_scene(name, those) for name, those in assets.items()], folder, client, parallel=workers)
    assert len(report.done) == len(assets), report.skipped[:1]
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--size", type=int, default=48, help="EnMAP pixels a side")
    parser.add_argument("--latency", type=float, default=0.04, help="seconds before each answer")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    if not shutil.which("curl"):
        sys.exit("curl is not installed, and is what this compares with")
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        scenes = scenes_of(place / "product", options.scenes, options.size)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(scenes, options.latency, theirs), daemon=True)
        server.start()
        url, assets = ours.recv()
        size = sum(len(body) for files in scenes.values() for body in files.values())
        print(f"{options.scenes} scenes, {sum(map(len, scenes.values()))} files, {size / 1e6:.0f} MB, {options.workers} workers, {1000 * options.latency:.0f} ms to the server\n")
        print("|run|curl [s]|download_scenes [s]|ratio|\n|---|--:|--:|--:|")
        seconds = []
        for n in range(options.repeat):
            took = []
            for get in (by_curl, lambda *a: by_us(url, *a)):
                folder = Path(tempfile.mkdtemp(dir=place))
                took.append(get(assets, folder, options.workers))
                shutil.rmtree(folder)
            seconds.append(took)
            print(f"|{n + 1}|{took[0]:.2f}|{took[1]:.2f}|{took[1] / took[0]:.2f}|", flush=True)
        curl, own = (median(column) for column in zip(*seconds, strict=True))
        print(f"|median|{curl:.2f}|{own:.2f}|{median(b / a for a, b in seconds):.2f}|")
        ours.send(None)


if __name__ == "__main__":
    main()
