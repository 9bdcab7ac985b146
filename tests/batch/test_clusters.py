"Nobody but who started a batch can speak to its workers, or lay files where they look for modules."
import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="needs the extra `batch`")
psutil = pytest.importorskip("psutil", reason="needs the extra `batch`")

from distributed import LocalCluster, Security  # noqa: E402
from distributed.comm import connect  # noqa: E402

from enmap_sharpener.batch.clusters import local_workers, remote_workers, slurm_cluster  # noqa: E402
from enmap_sharpener.core.errors import JobError  # noqa: E402


@pytest.fixture(scope="module")
def client():
    with local_workers(workers=2, threads=1) as client:
        yield client


def addresses(client):
    "Those of scheduler, nannies and workers."
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [client.scheduler.address, *workers, *(w["nanny"] for w in workers.values())]


def listening(client):
    "Where this process, whose threads are scheduler and nannies, and its workers listen."
    processes = [psutil.Process(), *(psutil.Process(pid) for pid in client.run(os.getpid).values())]
    return {c.laddr.ip for process in processes for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}


def test_nothing_listens_elsewhere(client):
    assert listening(client) == {"127.0.0.1"}
    assert all(address.startswith("tls://127.0.0.1:") for address in addresses(client)) and len(addresses(client)) == 5


def speaks(address, security):
    "Whether somebody there takes part in a conversation."
    async def converse():
        comm = await connect(address, timeout=2, **(security or Security()).get_connection_args("client"))
        comm.abort()
    try:
        asyncio.run(converse())
        return True
    except (OSError, TypeError):    # the latter without a certificate of one's own
        return False


@pytest.mark.parametrize("security, scheme", [(False, "tcp"), (False, "tls"), (True, "tls")])
def test_a_client_without_the_certificate_is_refused(client, security, scheme):
    "Nor with another one; nobody is let in by scheduler, nanny or worker."
    assert all(speaks(address, client.security) for address in addresses(client))
    assert not any(speaks(address.replace("tls", scheme), Security.temporary() if security else None) for address in addresses(client))


def test_no_web_pages(client):
    from urllib.error import HTTPError
    from urllib.request import urlopen
    ports = {client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.http_server.port), *client.run(lambda dask_worker: dask_worker.http_server.port).values()}
    assert len(ports) == 3
    for port in ports:
        for page in ("status", "health", "info/main/workers.html", "metrics", "json/identity.json"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5)


def test_files_of_workers_are_private(client):
    folders = [Path(folder) for folder in client.run(lambda dask_worker: dask_worker.local_directory).values()]
    private = {next(parent for parent in folder.parents if parent.parent == Path(tempfile.gettempdir())) for folder in folders}
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in private] == [0o700]
    (place,) = private
    assert place.stat().st_uid == os.getuid() and place.name.startswith("enmap-sharpener-")


def test_nothing_is_left():
    with local_workers(workers=1, threads=1) as client:
        (folder,) = client.run(lambda dask_worker: dask_worker.local_directory).values()
    assert not Path(folder).parents[1].exists()


def test_a_foreign_scheduler_with_certificates():
    with LocalCluster(n_workers=0, host="127.0.0.1", protocol="tls://", security=Security.temporary(), dashboard_address=None) as cluster:
        with pytest.raises(JobError, match="cannot be reached"), remote_workers(cluster.scheduler_address):
            pass


# Slurm

@pytest.fixture
def slurm(tmp_path, monkeypatch):
    "Write a file, and give what becomes of it."
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("HOME", str(tmp_path))

    def make(text=""):
        (tmp_path / "slurm.yaml").write_text(f"cores: 2\nmemory: 2 GB\ninterface: lo\n{text}")
        return slurm_cluster(tmp_path / "slurm.yaml")
    return make


def test_slurm_speaks_tls(slurm, tmp_path):
    with slurm() as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        (private,) = tmp_path.glob(".enmap-sharpener-*")
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in private.iterdir()} == {0o600} and len(list(private.iterdir())) == 3
        script = cluster.job_script()
        assert "PRIVATE" not in script and "CERTIFICATE" not in script and "--protocol tls://" in script
        assert all(str(file) in script for file in private.iterdir())
        assert [speaks(cluster.scheduler_address, s) for s in (cluster.security, None, Security.temporary())] == [True, False, False]
    assert not private.exists()


def test_slurm_has_no_pages_and_private_files(slurm):
    with slurm("local_directory: $SCRATCH\n") as cluster:
        pages = psutil.Process().net_connections("inet")
        assert {c.laddr.ip for c in pages if c.status == psutil.CONN_LISTEN and c.laddr.port == cluster.scheduler.http_server.port} == {"127.0.0.1"}
        script = cluster.job_script()
        assert "--no-dashboard" in script and "HTTP__ROUTES='[]'" in script and '$(mktemp -d "$SCRATCH/enmap-sharpener-XXXXXXXX")' in script
        assert "--local-directory" not in script


def test_slurm_as_the_user_wants_it(slurm, tmp_path):
    (tmp_path / "shared").mkdir()
    with slurm(f"shared_temp_directory: {tmp_path}/shared\n"):
        assert len(list((tmp_path / "shared").iterdir())) == 1
    with slurm("security: false\n") as cluster:
        assert cluster.scheduler_address.startswith("tcp://") and "--tls" not in cluster.job_script()
    with pytest.raises(JobError, match="slurm.yaml: FileNotFoundError"), slurm(f"shared_temp_directory: {tmp_path}/none\n"):
        pass
    with pytest.raises(JobError, match="slurm.yaml: 'queu' is no key of such a file; did you mean queue[?] Keys are") as refused, slurm("queu: long\n"):
        pass
    assert len(str(refused.value)) < 300, "without all that Dask knows of it"


def test_ctrl_c_stays_what_it_is(slurm, tmp_path):
    "Importing dask_jobqueue makes of Ctrl-C an exit with status 0."
    slurm()
    code = ("import signal; from enmap_sharpener.batch.clusters import slurm_cluster; before = signal.getsignal(signal.SIGINT)\n"
            f"with slurm_cluster({str(tmp_path / 'slurm.yaml')!r}): assert signal.getsignal(signal.SIGINT) is before")
    subprocess.run([sys.executable, "-c", code], check=True)
