"""The limit of linear algebra's threads is one for the process, while who asks for it are many threads."""
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from enmap_sharpener.core.parallel import one_algebra_thread


def limits():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def two():
    "Two threads of linear algebra, also where there is one processor; set in threads that end, so that no living one has it in its hands."
    with ThreadPoolExecutor(1) as passing:
        limit = passing.submit(threadpool_limits, 2, "blas").result()
    yield
    with ThreadPoolExecutor(1) as passing:
        passing.submit(limit.restore_original_limits)


def held(wait=lambda: None):
    with one_algebra_thread():
        wait()
        return limits()


def test_threads_are_limited_after_another_was():
    held()
    with ThreadPoolExecutor(2) as pool:
        assert all(set(found) == {1} for found in pool.map(lambda _: held(), range(8)))
    assert set(held()) == {1}


def test_the_last_to_leave_takes_it_back_also_if_another_set_it():
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as last:
        inside, left = Barrier(2, timeout=10), Barrier(2, timeout=10)
        leaving = first.submit(held, inside.wait)
        staying = last.submit(held, lambda: (inside.wait(), left.wait()))
        assert set(leaving.result()) == {1}
        assert set(limits()) == {1}
        left.wait()
        assert set(staying.result()) == {1}
        assert set(limits()) == {2}      # while both threads live
