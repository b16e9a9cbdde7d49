"""Stages as Dask tasks, in the order of the plan, on a cluster in this process or on one that the user has."""

import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import CancelledError, Client, Future, LocalCluster, TimeoutError, get_worker, wait
from distributed.system import MEMORY_LIMIT

from centroidlib._locks import holding
from centroidlib.batch.execution import StageError, execute, is_stopped, stop
from centroidlib.batch.notebooks import BatchError
from centroidlib.batch.planning import Stage
from centroidlib.batch.report import DONE
from centroidlib.batch.state import State, look_again, state_of

MEMORY = 4.0  # GiB that a notebook takes at most, on the 10,000 faces and on all of CelebA's
STOPPED = {"state": "stopped", "why": "stopped by hand"}
TIMEOUT = 30.0  # seconds in which a scheduler must answer
LOOK_AGAIN = 2.0  # seconds after which workers are counted again


@dataclass(frozen=True)
class Resources:
    """What the batch's notebooks share.

    Attributes:
        workers: notebooks side by side.
        threads: each computes with, by its stage's label; 0 for the worker's share of its machine.
        devices: the GPU of each worker, none where there are no GPUs.
        why: the same in words.
    """

    workers: int
    threads: Mapping[str, int]
    devices: tuple[str, ...]
    why: str


def share_out(stages: list[Stage], workers: int | None, threads: int | None) -> Resources:
    """How many notebooks run side by side on this machine, one a GPU, or as many as memory and cores allow.

    What runs alone, such as what all arms share, has all the cores. All of it follows from the batch and the machine, not
    from what is left to do: a batch that is continued computes with as many threads as before, and so the same bits.

    Args:
        stages: of the batch.
        workers: so many; None to find out.
        threads: each computes with; None for its share of the cores.
    """
    devices = _gpus()
    runs = len({stage.folder for stage in stages if "arm" in stage.parameters}) or 1
    if workers is None:
        memory = MEMORY_LIMIT / (1 << 30)
        workers = max(1, min(runs, len(devices) if devices else min(CPU_COUNT, int(memory / MEMORY))))
        found = f"{len(devices)} GPUs" if devices else f"{CPU_COUNT} cores, {memory:.0f} GiB of memory, {MEMORY:.0f} for each"
        why = f"{found}, {runs} independent run{'s' if runs > 1 else ''}"
    else:
        why = "as asked for"
    of_kind = Counter(stage.name for stage in stages)
    share = {stage.label: threads or max(1, CPU_COUNT // min(workers, of_kind[stage.name])) for stage in stages}
    each = threads or max(1, CPU_COUNT // workers)
    words = f"{workers} notebook{'s' if workers > 1 else ''} at a time, {each} thread{'s' if each > 1 else ''} each ({why})"
    return Resources(workers, share, tuple(devices), words)


@contextmanager
def local_cluster(resources: Resources) -> Iterator[Client]:
    """A client of a Dask cluster inside this process: a worker for each notebook that runs side by side."""
    _silence()
    here = "127.0.0.1:0"
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        LocalCluster(
            n_workers=resources.workers, threads_per_worker=1, processes=False, memory_limit=0, dashboard_address=here,
            worker_dashboard_address=here,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


@contextmanager
def users_cluster(address: str) -> Iterator[Client]:
    """A client of the cluster whose scheduler listens at `address`.

    Raises:
        BatchError: nobody answers there, or a worker has not this library.
    """
    _silence()
    try:
        client = Client(address, timeout=TIMEOUT)
    except (OSError, ValueError, TypeError) as error:
        raise BatchError(f"--scheduler: no Dask scheduler answers at {address!r} ({error}).") from error

    def has_library() -> bool:  # a function of its own, which goes there as it stands
        from importlib.util import find_spec

        return find_spec("centroidlib") is not None

    with client:
        lacking = [worker for worker, has in client.run(has_library).items() if not has]
        if lacking:
            raise BatchError(f"--scheduler: centroidlib is not installed at the workers {', '.join(lacking)}.")
        yield client


def _silence() -> None:
    """What fails is told once, in a sentence."""
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def run_stage(
    stage: Stage, needed: tuple[str, ...], batch: str, rerun_stale: bool, threads: int, devices: tuple[str, ...]
) -> dict[str, Any]:
    """On a worker: run a stage, unless it is done; what became of it.

    Args:
        stage: which.
        needed: outputs that other stages will want.
        batch: the topic of its events, and under which `stop` knows it.
        rerun_stale: run what other code of the library made.
        threads: to compute with, 0 for the worker's share of its machine.
        devices: the GPU of each worker, by the worker's number.

    Raises:
        StageError: it failed, or was stopped.
    """
    worker = get_worker()
    if not stage.root.is_dir():
        sentence = (
            f"{stage.label} failed: its worker does not see the project. A cluster needs it at the same path on every machine."
        )
        raise StageError(stage.label, sentence)
    look_again()
    try:
        state = state_of(stage, needed)
        if not state.runs(rerun_stale):
            return _outcome(stage, state)
        tell = lambda why: worker.log_event(batch, {"label": stage.label, "why": why})  # noqa: E731
        with holding(stage.folder, lambda who: tell(f"waits for {who}"), lambda: is_stopped(batch)) as handle:
            look_again()
            state = state_of(stage, needed)
            if not state.runs(rerun_stale):  # another process did it meanwhile
                return _outcome(stage, state)
            if is_stopped(batch):
                raise InterruptedError
            tell(state.why)
            began = time.time()
            execute(stage, _environment(worker, threads, devices), batch, handle)
            return _outcome(stage, state) | {"state": "ran", "seconds": round(time.time() - began, 1), "worker": str(worker.name)}
    except InterruptedError:
        raise StageError(stage.label, f"{stage.label} was stopped.", stopped=True) from None
    except StageError:
        raise
    except (ValueError, OSError) as error:
        raise StageError(stage.label, f"{stage.label} failed. {error}") from error


def run_all(
    client: Client,
    stages: list[Stage],
    needed: Mapping[str, tuple[str, ...]],
    batch: str,
    rerun_stale: bool,
    resources: Resources,
    told: Callable[[Mapping[str, Any]], None],
) -> bool:
    """Run the stages, each when those it waits for are done; whether they were stopped by hand before the end.

    A worker gets the next one in the order of the plan when it is free, so that what is stopped early leaves whole pairs.
    What compares the runs comes when all have ended, and takes those that did not fail.

    Args:
        client: of the cluster.
        stages: each behind those it waits for.
        needed: by label, outputs that other stages will want of it.
        batch: a name that no other batch of the cluster has.
        rerun_stale: run what other code of the library made.
        resources: of each notebook.
        told: is called with what becomes of every stage, in the order in which it does.

    Raises:
        KeyboardInterrupt: stopped by hand a second time, while notebooks still ran.
    """
    states: dict[str, str] = {}
    waiting, running = list(stages), dict[Future[Any], Stage]()
    stopped = False

    def noted(outcome: Mapping[str, Any]) -> None:
        states[outcome["label"]] = outcome["state"]
        told(outcome)

    def begin_what_can() -> None:
        """Send stages whose time has come, in the order of the plan, as many as there are free workers."""
        try:
            free = sum(client.nthreads().values()) - len(running)
        except (OSError, RuntimeError, CancelledError) as error:
            raise ConnectionError("The connection to the scheduler was lost: run the batch again, it goes on.") from error
        for stage in list(waiting):
            ends = {label: states.get(label) for label in stage.after}
            bad = sorted(label for label, state in ends.items() if state not in (None, *DONE))
            enough = any(state in DONE for state in ends.values()) if stage.compares else not bad
            if None in ends.values() and (stage.compares or not bad):
                continue
            if not enough:
                waiting.remove(stage)
                noted({"label": stage.label, "state": "blocked", "why": f"waits for {', '.join(bad)}"})
            elif free > 0:
                waiting.remove(stage)
                future = client.submit(
                    run_stage, stage, needed[stage.label], batch, rerun_stale, resources.threads[stage.label],
                    resources.devices, key=f"notebook-{batch}/{stage.label}", pure=False,
                )  # fmt: skip
                running[future] = stage
                free -= 1

    client.subscribe_topic(batch, lambda event: told(event[1]))
    if not client.nthreads():
        told({"label": "The batch", "why": "waits for a worker of the cluster"})
    while waiting or running:
        try:
            if not stopped:
                begin_what_can()
            if running:
                with suppress(TimeoutError, CancelledError):
                    wait(list(running), timeout=LOOK_AGAIN, return_when="FIRST_COMPLETED")
            elif waiting:
                time.sleep(LOOK_AGAIN)  # no worker yet
            for future in [future for future in running if future.status != "pending"]:
                noted(_result(running.pop(future), future, stopped))
        except KeyboardInterrupt:
            if stopped:
                raise
            stopped = True
            told({"label": "The batch", "why": "waits for its notebooks to save what they can; Ctrl-C again stops at once"})
            client.run(stop, batch, on_error="ignore")
            for stage in waiting:
                noted({"label": stage.label} | STOPPED)
            waiting.clear()
    return stopped


def _result(stage: Stage, future: Future[Any], stopped: bool) -> dict[str, Any]:
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    found = {"label": stage.label, "state": "failed"}
    if stopped and (error is None or (isinstance(error, StageError) and error.stopped)):
        return found | STOPPED
    if isinstance(error, StageError):
        return found | {"why": str(error)}
    said = f"{type(error).__name__}, {error}" if error else "the connection to the scheduler was lost"
    return found | {"why": f"{stage.label} failed: {said}"}


def _outcome(stage: Stage, state: State) -> dict[str, Any]:
    return {"label": stage.label, "state": state.word, "why": state.why, "seconds": state.seconds}


def _environment(worker: Any, threads: int, devices: tuple[str, ...]) -> dict[str, str]:
    """Of a kernel on this worker: its threads, and its GPU."""
    count = str(threads or max(1, CPU_COUNT // worker.state.nthreads))
    found = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
    return found | ({"CUDA_VISIBLE_DEVICES": devices[int(worker.name) % len(devices)]} if devices else {})


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES counts them, found without torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    except OSError:
        return []
    return listed.stdout.split() if listed.returncode == 0 else []
