"Kernels of the kernel server: each a process of its own, with the environment of its worker, gone with it; and what goes wrong with them."
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import nbformat
import pytest

papermill = pytest.importorskip("papermill", reason="needs the extra `batch`")
psutil = pytest.importorskip("psutil", reason="needs the extra `batch`")

from jupyter_client import AsyncKernelManager  # noqa: E402
from nbclient.exceptions import DeadKernelError  # noqa: E402

from enmap_sharpener.batch import kernel_server  # noqa: E402
from enmap_sharpener.batch.kernel_server import WarmKernelManager  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere kernels are started as ever")


@pytest.fixture(scope="module", autouse=True)
def end():
    "What these tests started ends with them."
    yield
    while kernel_server._SERVERS:
        kernel_server._SERVERS.pop().close()


def run(folder, code, manager=WarmKernelManager):
    "What a notebook of one cell prints, run in a folder."
    os.environ.pop("PYTEST_CURRENT_TEST", None)      # another for each test
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}, cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, folder / "in.ipynb")
    done = papermill.execute_notebook(folder / "in.ipynb", folder / "out.ipynb", progress_bar=False, kernel_name="python3", kernel_manager_class=manager,
                                      resources={"metadata": {"path": str(folder)}}, extra_arguments=["--log-level=ERROR"])
    return "".join(o.get("text", "") for o in done.cells[-1].outputs)


def gone(pid):
    "Whether a process ends within ten seconds, and is no zombie."
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE or psutil.Process(pid).ppid() == os.getpid():
                time.sleep(0.05)
                continue
        return True
    return False


def test_kernels_have_what_they_would_have(tmp_path):
    "Environment variables, folder, signals and open files: as those of a kernel that is started as ever."
    told = "import json, os, signal, sys; print(json.dumps([os.getcwd(), sys.path[:2], [str(signal.getsignal(n)) for n in (2, 15, 17)], os.getsid(0) == os.getpid(), __name__, dict(os.environ)]))"
    *warm, variables = json.loads(run(tmp_path, told))
    *ever, others = json.loads(run(tmp_path, told, AsyncKernelManager))
    assert warm == ever and others.items() <= variables.items() and "JPY_PARENT_PID" in others
    assert not [name for name in variables.keys() - others.keys() if not name.endswith("_CURL_CA_BUNDLE") and name != "KMP_DUPLICATE_LIB_OK"]     # which modules set where they are imported
    sockets = "import os; print(sorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')).count('socket'))"
    assert run(tmp_path, sockets) == run(tmp_path, sockets, AsyncKernelManager)


def test_nothing_stays_from_one_kernel_to_the_next(tmp_path):
    leave = "import os, builtins, numpy as np; builtins.left = 1; os.environ['LEFT'] = '1'; np.random.seed(1); np.set_printoptions(precision=1); np.left = 1; open('left.txt', 'w')"
    find = "import os, builtins, numpy as np; print(hasattr(builtins, 'left'), 'LEFT' in os.environ, hasattr(np, 'left'), np.get_printoptions()['precision'])"
    run(tmp_path, leave)
    assert run(tmp_path, find).split() == ["False", "False", "False", "8"]


def test_one_server_for_all_and_no_zombie(tmp_path):
    parents = {run(tmp_path, "import os; print(os.getppid())").strip() for _ in range(3)}
    assert parents == {str(kernel_server._SERVERS[0].process.pid)}
    assert psutil.Process(kernel_server._SERVERS[0].process.pid).children() == []


@pytest.mark.parametrize("which", ["getpid", "getppid"])
def test_a_kernel_that_dies_and_one_that_kills_its_server(tmp_path, which):
    "Either fails its notebook as ever, and the next is run."
    dies = f"import os, time; os.kill(os.{which}(), 9 * (os.{which}() != {os.getpid()})); time.sleep(60)"
    for manager in (WarmKernelManager, *[AsyncKernelManager] * (which == "getpid")):
        with pytest.raises(DeadKernelError, match="Kernel died"):
            run(tmp_path, dies, manager)
    assert run(tmp_path, "print(1)") == "1\n"


def test_memory_that_runs_out_is_told_in_the_notebook(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="MemoryError"):
        run(tmp_path, "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)); x = bytearray(2**33)")
    assert run(tmp_path, "import resource; print(resource.getrlimit(resource.RLIMIT_AS)[0] < 0)") == "True\n"


def test_other_variables_are_honoured(tmp_path, monkeypatch):
    "A kernel that is to have another environment than the server does not come from it."
    run(tmp_path, "0")
    monkeypatch.setenv("ENMAP_SHARPENER_TEST", "here")
    assert run(tmp_path, "import os; print(os.environ['ENMAP_SHARPENER_TEST'], os.getppid())").split() == ["here", str(os.getpid())]


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "import time; time.sleep(600)"])
def test_without_a_server(tmp_path, monkeypatch, program):
    "One that does not come up, or does not answer: kernels are started as ever."
    while kernel_server._SERVERS:
        kernel_server._SERVERS.pop().close()
    monkeypatch.setattr(kernel_server, "_SERVE", program)
    monkeypatch.setattr(kernel_server, "_PATIENCE", 1)
    assert run(tmp_path, "import os; print(os.getppid())").strip() == str(os.getpid())
    for server in kernel_server._SERVERS:
        server.process.kill()


WORKER = """
import sys, time
from pathlib import Path
from enmap_sharpener.batch import kernel_server
server = kernel_server._Server(dict(__import__("os").environ))
kernel = server.kernel(["-f", sys.argv[1] + "/kernel.json"], sys.argv[1])
print(server.process.pid, kernel.pid, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["time.sleep(600)", "sys.exit()", "server.close()", "__import__('os')._exit(0)"])
def test_all_ends_with_the_worker(tmp_path, end):
    "Killed, or come to its end in one way or another."
    worker = subprocess.Popen([sys.executable, "-c", WORKER.format(end=end), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    assert len(pids) == 2
    if "sleep" in end:
        assert all(map(psutil.pid_exists, pids))
        worker.send_signal(signal.SIGKILL)
    worker.wait(30)
    assert all(map(gone, pids))


def test_a_server_has_no_threads_of_python():
    "Whatever it imports: a lock that a thread holds would be held for ever in a kernel."
    told = subprocess.run([sys.executable, "-c", "import threading; from enmap_sharpener.batch.kernel_server import _prepare; _prepare(); print(threading.active_count())"],
                          capture_output=True, text=True, check=True).stdout
    assert told == "1\n"


def test_threads_of_blas_and_numba_begin_anew(tmp_path):
    code = """import numpy as np, numba, os
from threadpoolctl import threadpool_info
a = np.random.rand(500, 500)
@numba.njit(parallel=True)
def total(a):
    s = 0.0
    for i in numba.prange(a.shape[0]):
        s += a[i].sum()
    return s
print(np.allclose(a @ np.linalg.inv(a), np.eye(500), atol=1e-6), np.isclose(total(a), a.sum()), [i["num_threads"] for i in threadpool_info() if "openblas" in i["filepath"]][:1])"""
    warm, ever = run(tmp_path, code), run(tmp_path, code, AsyncKernelManager)
    assert warm == ever and warm.startswith("True True")


def test_imports_end_with_the_worker():
    "Also while the worker's last question waits to be read."
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there.send(b"k")
    assert not kernel_server._is_closed(here)
    there.close()
    assert kernel_server._is_closed(here)
    here.close()
    code = "import sys; from enmap_sharpener.batch.kernel_server import _prepare\ntry: _prepare(lambda: 'pystac' in sys.modules)\nfinally: print('enmap_sharpener.sharpening.sharpening' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
