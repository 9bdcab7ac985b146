"What a hundred thousand scenes need of who gives them out: nothing that grows with their square, no page that grows with their number."
import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

pytest.importorskip("papermill", reason="needs the extra `batch`")

from enmap_sharpener.batch import runner, tasks  # noqa: E402
from enmap_sharpener.batch.runner import run_batch, write_report  # noqa: E402
from enmap_sharpener.batch.tasks import TaskOutcome  # noqa: E402

NAMES = [f"scene{n:04d}" for n in range(2000)]


def test_a_report_of_thousands_has_pages(tmp_path):
    folder = tmp_path / "sharpen"
    for name in NAMES[:1200]:
        (folder / name).mkdir(parents=True)
        (folder / name / "done.json").write_text('{"seconds": 1.0, "files": {}}')
    (folder / "zz.failed.json").write_text('{"error": "no <partner>", "seconds": 1}')
    (folder / "report-x.html").touch()
    page = write_report(folder)
    pages = [page, folder / "report-2.html", folder / "report-3.html"]
    texts = [path.read_text() for path in pages]
    assert [text.count("<tr class=") for text in texts] == [500, 500, 201] and max(map(len, texts)) < 500_000
    assert texts[0].index("no &lt;partner&gt;") < texts[0].index("scene0000") and all("1200 scenes done, 1 failed" in text for text in texts)
    assert 'href="report-2.html" title="from scene0499"' in texts[0] and "<b>2</b>" in texts[1] and 'href="report.html"' in texts[2]
    for name in NAMES[400:1200]:
        (folder / name / "done.json").unlink()
    write_report(folder)
    assert not pages[1].exists() and not pages[2].exists() and (folder / "report-x.html").exists() and "report-" not in page.read_text()


class Future:
    "What a worker has finished as soon as it is submitted."

    def __init__(self, key, result):
        self.key, self._result = key, result

    def add_done_callback(self, call):
        call(self)

    def result(self):
        return self._result


class Workers:
    "A client of workers that do nothing, and count what is asked of them."

    def __init__(self, places, asked):
        self.places, self.asked, self.cluster, self.most, self.busy = places, asked, None, 0, 0

    def nthreads(self):
        self.asked["nthreads"] += 1
        return dict.fromkeys(range(self.places), 1)

    def submit(self, function, task, key, pure):
        self.asked["submit"] += 1
        return Future(key, (TaskOutcome(task.scene, "done", 1.0), ""))


def scenes(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "METADATA.XML").touch()
    return folder / "*"


def test_the_client_asks_little(tmp_path, monkeypatch):
    "Each scene is submitted once; of workers, jobs and the notebook it is not asked for each scene."
    asked, lines, steps = Counter(), [], []
    clock = iter(range(10**6))
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(clock) / 1000)      # a thousandth of a second from one look at the clock to the next
    reads = monkeypatch.setattr(tasks.nbformat, "reads", lambda *a, before=tasks.nbformat.reads, **k: (asked.update(["notebook"]), before(*a, **k))[1]) or asked
    tasks._code.cache_clear()
    monkeypatch.setattr(runner, "write_report", lambda folder: folder / "report.html")
    pattern = scenes(tmp_path / "data", NAMES[:2000])
    report = run_batch("sharpen", str(pattern), tmp_path / "runs", cluster=nullcontext(Workers(7, asked)), tell=lines.append, progress=lambda done, total: steps.append((done, total)))
    assert len(report.of("done")) == 2000 and asked["submit"] == 2000 and asked["nthreads"] < 30 and reads["notebook"] <= 8
    assert len(lines) == 2001 and lines[-1].startswith("[2000/2000] ") and steps[-1] == (2000, 2000)


def test_what_is_done_is_asked_once(tmp_path, monkeypatch):
    "A resumed run looks at each record twice, for its settings and its files, and at no scene that is done a third time."
    looked = []      # from several threads

    def record(path, before=runner.read_facts):
        looked.append(Path(path).name)
        return before(path)
    monkeypatch.setattr(runner, "read_facts", record)
    monkeypatch.setattr(runner, "write_report", lambda folder: folder / "report.html")
    pattern = scenes(tmp_path / "data", NAMES[:1500])
    job, folder = runner.open_job("sharpen"), tmp_path / "runs/sharpen"
    for name in NAMES[:1500]:
        (folder / name).mkdir(parents=True)
        task = runner.Task(name, tmp_path / "data" / name, folder, job, {})
        (folder / name / "done.json").write_text(json.dumps({"fingerprint": task.fingerprint, "source": task.source, "parameters": {}, "files": {}}))
    report = run_batch("sharpen", str(pattern), tmp_path / "runs", cluster=nullcontext(None))
    assert len(report.of("there already")) == 1500 and Counter(looked) == {"done.json": 3000}
