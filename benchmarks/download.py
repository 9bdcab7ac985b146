"""Scenes from a server on the loopback address, by `download_scenes` and by curl: seconds, processor time and the ratio, as a Markdown table.

    python benchmarks/download.py                       # 50 scenes of 12 files, 4 at once, five times each
    python benchmarks/download.py --scenes 10 --size 96

Both fetch the same files from the same server, in turn, and medians count. curl is one process for each of the workers, which keeps its
connection; it checks nothing, while ours makes sure that each file is what it should be, and that the scene can be read. The server is a process of its
own, that of the tests.

Two processors that four other programs shared, 50 scenes of 48 x 48 pixels, 600 files of 34 MB, 40 ms to the server; medians of five runs, both rows in turn with one curl,
all at the same priority. The times hold for that load, which the ratio does not leave out: what computes suffers more than curl, which waits.

|what is done with each scene|curl [s]|download_scenes [s]|its processor time [s]|ratio|
|---|--:|--:|--:|--:|
|opened by `read_enmap` in the end: 35 openings of its rasters, METADATA.XML parsed three times|6.6|12.1|7.1|1.8|
|looked at by `check_enmap`, which opens no image: 20 openings, parsed once|6.6|8.7|4.0|1.3|
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
    """Seconds that `download_scenes` takes, and of them those of a processor."""
    begin, busy = time.perf_counter(), time.process_time()
    with Client(host=url, sso=url) as client:
        report = download_scenes([found_scene(name, those) for name, those in assets.items()], folder, client, parallel=workers)
    assert len(report.done) == len(assets), report.skipped[:1]
    return time.perf_counter() - begin, time.process_time() - busy


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
        print("|run|curl [s]|download_scenes [s]|its processor time [s]|ratio|\n|---|--:|--:|--:|--:|")
        seconds = []
        for n in range(options.repeat):
            took = []
            for get in (lambda *a: [by_curl(*a)], lambda *a: by_us(url, *a)):
                folder = Path(tempfile.mkdtemp(dir=place))
                took.extend(get(assets, folder, options.workers))
                shutil.rmtree(folder)
            seconds.append([*took, took[1] / took[0]])
            print(f"|{n + 1}|" + "|".join(f"{v:.2f}" for v in seconds[-1]) + "|", flush=True)
        print("|median|" + "|".join(f"{median(column):.2f}" for column in zip(*seconds, strict=True)) + "|")
        ours.send(None)


if __name__ == "__main__":
    main()
