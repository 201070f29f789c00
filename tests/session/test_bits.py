"""However a session is run, the results have the same bits."""

import os
import random

import pytest

from pyflow.session import SessionConfig, run_session, run_stage1_array, run_stage2, run_stage3
from pyflow.session.dask import open_cluster, run_session_dask


def local(config):
    run_session(config)


def array(config):
    for index in (2, 0, 1):
        run_stage1_array(config, index)
    run_stage2(config)
    run_stage3(config)


def dask(config):
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with open_cluster(config, jobs=2, cores=2) as client:
        run_session_dask(config, client)


class Interrupted(BaseException):
    """Ends a run as a signal does."""


def interrupted(config):
    """Stop after a few frames, again and again, or at a file that is about to get its name."""
    chance, replace = random.Random(1), os.replace
    for _ in range(12):
        left = [chance.randrange(1, 7), chance.randrange(1, 14)]

        def count(which, left=left):
            left[which] -= 1
            if left[which] == 0:
                raise Interrupted

        def replace_or_stop(source, target):
            count(1)
            replace(source, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", replace_or_stop)
            try:
                run_session(config, progress=lambda *_: count(0))
            except Interrupted:
                continue
            break
    run_session(config)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("dask_garbage")
def test_all_ways_to_run_a_session_give_the_same_bits(config, equals_a_local_run):
    """Each against one process with one thread that is never interrupted."""
    ways = {"threads": (local, 3), "array": (array, 1), "interrupted": (interrupted, 2), "dask": (dask, 0)}
    for name, (run, n_workers) in ways.items():
        tried: SessionConfig = config.replace(
            output_root=f"{name}/compensated_outputs", final_results=f"{name}/final_results", n_workers=n_workers
        )
        run(tried)
        equals_a_local_run(tried)
