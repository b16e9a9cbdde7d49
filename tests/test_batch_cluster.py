"""Tests of running the graph: side by side, killed, stopped, failing, on this machine's own cluster and on a user's."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from distributed import Client
from small_projects import make_project, write_batch, write_notebook
from soak import batch, done_in, same_rows, soak

from centroidlib._locks import take_lock
from centroidlib.batch import cluster, execution, plan
from centroidlib.batch.__main__ import main
from centroidlib.runs import read_record

RUN = 'from centroidlib.runs import Run\nrun = Run("{0}", globals())'
LOG = 'import os, time\ntold = open("log.txt", "a", buffering=1)\n'
BODIES = {
    "01_first": (
        'batch = "manual"  # folder',
        RUN.format("01_first"),
        '(run.folder / "first.txt").write_text("1")\nrun.finish("first.txt")',
    ),
    "02_run": (
        'batch = "manual"  # folder\narm = "a"  # arm\nseed = 0  # seed\nlambda_ = 0.0  # weight\n'
        'seconds = 0.0  # to work\nfails = ""  # at which seed',
        RUN.format("02_run") + '\nrun.input("01_first/first.txt")',
        LOG + 'name = f"{arm} {seed}"',
        'if fails == str(seed):\n    raise ValueError("it failed")\n'
        "try:\n"
        '    told.write(f"begin {name} {os.getpid()}\\n")\n'
        "    time.sleep(seconds)\nexcept KeyboardInterrupt:\n"
        '    told.write(f"saved {name} {os.getpid()}\\n")\n    raise',
        '(run.folder / "run.txt").write_text(f"{lambda_ + seed}")\n'
        '(run.folder / "threads.txt").write_text(os.environ["OMP_NUM_THREADS"])\n'
        'run.finish("run.txt")\ntold.write(f"end {name} {os.getpid()}\\n")',
    ),
    "03_last": (
        'batch = "manual"  # folder\nruns = ""  # run folders',
        RUN.format("03_last"),
        "there = [name for name in runs.split() if (run.batch / name / 'run.txt').is_file()]\n"
        "failed = [run.input(name + '/run.json').parent.name for name in runs.split() if name not in there]\n"
        "values = [f\"{name},{run.input(name + '/run.txt').read_text()}\" for name in there]\n"
        '(run.batch / "runs.csv").write_text("\\n".join(["run,value", *values]) + "\\n")\nrun.finish()',
    ),
}
SWEEP = {
    "notebooks": list(BODIES),
    "arms": {"baseline": {"lambda_": 0}, "centroid": {"lambda_": 40}},
    "seeds": [0, 1, 2],
}


@pytest.fixture
def project(tmp_path):
    root = make_project(tmp_path).resolve()
    for name, cells in BODIES.items():
        write_notebook(root / "notebooks" / f"{name}.ipynb", *cells)
    return root


def log_of(root, word):
    path = root / "log.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.split()[1:3] for line in lines if line.split()[0] == word]


def wait_until(true, seconds=90.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def rows_of(root, name="small"):
    return pd.read_csv(root / "results" / name / "runs.csv")


# What fails, and what does not.


def test_a_failed_run_stops_neither_its_siblings_nor_itself_from_running_again(project, capsys):
    file = write_batch(project, SWEEP | {"arms": {"baseline": {}, "centroid": {"fails": "1"}}, "seeds": [0, 1]})
    assert main([str(file)]) == 1
    streams = capsys.readouterr()
    assert streams.err.splitlines() == [
        "",
        "centroid_seed1/02_run failed. ValueError: it failed",
        "Its executed notebook: results/small/centroid_seed1/02_run.failed.ipynb",
        "1 of 6 stages failed; 5 are done, and are kept.",
    ]
    assert len(rows_of(project)) == 3  # what compares runs takes those that there are
    record = json.loads((project / "results" / "small" / "centroid_seed1" / "run.json").read_text())
    assert record["failed"] == {"02_run": "centroid_seed1/02_run failed. ValueError: it failed"}
    manifest = json.loads((project / "results" / "small" / "manifest.json").read_text())
    states = {label: stage["state"] for label, stage in manifest["stages"].items()}
    assert states.pop("centroid_seed1/02_run") == "failed"
    assert set(states.values()) == {"ran"}

    assert main([str(file), "--status"]) == 0
    assert re.search(r"^centroid_seed1/02_run +failed +failed before$", capsys.readouterr().out, re.M)
    write_batch(project, SWEEP | {"arms": {"baseline": {}, "centroid": {"fails": "never"}}, "seeds": [0, 1]})
    (project / "log.txt").unlink()
    assert main([str(file)]) == 0
    assert sorted(log_of(project, "end")) == [["centroid", "0"], ["centroid", "1"]]  # their parameter changed
    assert len(rows_of(project)) == 4


def test_runs_begin_in_the_order_of_the_plan(project):
    """A seed's arms together: what is stopped early leaves pairs."""
    file = write_batch(project, SWEEP | {"seeds": [2, 0, 1, 3]})
    assert main([str(file), "--set", "seconds=0", "--workers", "1"]) == 0
    assert log_of(project, "begin") == [[arm, str(seed)] for seed in (2, 0, 1, 3) for arm in SWEEP["arms"]]


def test_a_batch_says_what_it_was_run_with(project, capsys):
    file = write_batch(project, SWEEP | {"seeds": [3]})
    assert main([str(file), "--set", "seconds=0.1", "--workers", "2", "--threads", "3"]) == 0
    assert "4 stages, 4 to run; 2 notebooks at a time, 3 threads each (as asked for)" in capsys.readouterr().out
    folder = project / "results" / "small"
    assert (folder / "baseline_seed3" / "threads.txt").read_text() == "3"
    text = (folder / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["settings"] == ["seconds=0.1"]
    assert manifest["file"]["name"] == "notebooks/small.yml"
    assert set(manifest) == {
        *("file", "settings", "began", "ended", "resources", "machine", "code", "library", "python", "packages", "stages"),
    }
    stage = manifest["stages"]["baseline_seed3/02_run"]
    assert stage["notebook"] == "results/small/baseline_seed3/02_run.ipynb"
    assert (stage["state"], stage["why"]) == ("ran", "never ran")
    assert stage["seconds"] > 0.1
    assert str(project) not in text
    record = read_record(folder / "baseline_seed3")["stages"]["02_run"]
    assert list(record["inputs"]) == ["01_first/first.txt"]
    assert list(record["outputs"]) == ["run.txt"]
    assert record["made_with"]["packages"]["distributed"]


def test_other_seeds_join_what_is_done(project):
    file = write_batch(project, SWEEP | {"seeds": [0]})
    assert main([str(file)]) == 0
    assert main([str(file), "--set", "seed=1"]) == 0
    assert list(rows_of(project)["run"]) == ["baseline_seed0", "centroid_seed0", "baseline_seed1", "centroid_seed1"]
    assert len(log_of(project, "end")) == 4
    manifest = json.loads((project / "results" / "small" / "manifest.json").read_text())
    assert {"baseline_seed0/02_run", "baseline_seed1/02_run"} <= set(manifest["stages"])
    assert main([str(file)]) == 0
    assert len(rows_of(project)) == 4


@pytest.mark.parametrize("content", ["{", "[]", '{"stages": []}', '{"stages": {}, "file": "small.yml"}'])
def test_a_damaged_manifest_is_refused_in_a_sentence_before_any_work(project, capsys, content):
    file = write_batch(project, SWEEP | {"notebooks": ["01_first"], "arms": None})
    (project / "results" / "small").mkdir(parents=True)
    (project / "results" / "small" / "manifest.json").write_text(content)
    assert main([str(file)]) == 1
    assert capsys.readouterr().err == "small/manifest.json is damaged: delete it, it is made anew.\n"
    assert not (project / "results" / "small" / "01_first").exists()


def test_a_second_batch_of_the_same_name_is_refused(project, capsys):
    first = write_batch(project, SWEEP | {"notebooks": ["01_first"], "arms": None})
    assert main([str(first)]) == 0
    (project / "notebooks" / "batches").mkdir()
    second = project / "notebooks" / "batches" / "small.yml"
    second.write_text(first.read_text())
    (project / "results" / "small" / "01_first" / "run.json").unlink()
    assert main([str(second)]) == 1
    assert "holds the runs of notebooks/small.yml, and notebooks/batches/small.yml would write there" in capsys.readouterr().err
    assert main([str(write_batch(project, SWEEP, "manual.yml"))]) == 2


# Stopped, killed, and started again.


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_batch_that_is_stopped_lets_its_notebooks_save(project, name):
    file = write_batch(project, SWEEP | {"parameters": {"seconds": 60.0}})
    process = batch(project, file, "--workers", "2")
    wait_until(lambda: len(log_of(project, "begin")) == 2)
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=50)
    assert process.returncode == 130, out
    assert len(log_of(project, "saved")) == 2
    assert not log_of(project, "end")
    assert "Stopped: what is done is kept, and training continues from its checkpoint when the batch is run again." in out
    assert not list(project.glob("results/**/*.failed.ipynb"))
    assert not list(project.glob("results/**/.*.part*"))
    assert main([str(file), "--set", "seconds=0.0"]) == 0
    assert len(rows_of(project)) == 6


def test_a_second_ctrl_c_stops_at_once_and_leaves_no_kernel(project):
    body = BODIES["02_run"][0], *BODIES["02_run"][1:3], "import pathlib\nwhile True:\n    try:\n        time.sleep(60)\n"
    deaf = body[3] + '    except KeyboardInterrupt:\n        told.write(f"deaf {name}\\n")'
    write_notebook(project / "notebooks" / "02_run.ipynb", *body[:3], 'told.write(f"begin {name}\\n")\n' + deaf)
    process = batch(project, write_batch(project, SWEEP | {"seeds": [0]}), "--workers", "2")
    wait_until(lambda: len(log_of(project, "begin")) == 2)
    for count in (1, 2):
        process.send_signal(signal.SIGINT)
        wait_until(lambda count=count: len(log_of(project, "deaf")) == 2 or count == 2)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert "waits for its notebooks to save what they can; Ctrl-C again stops at once" in out
    handle = []
    wait_until(lambda: handle.append(take_lock(project / "results" / "small" / "baseline_seed0")) or handle[-1] is not None)
    os.close(handle[-1])


def test_a_batch_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(project):
    settings = ("--set", "seconds=0.3")
    undisturbed = write_batch(project, SWEEP, "undisturbed.yml")
    began = time.monotonic()
    assert batch(project, undisturbed, *settings).communicate()[0]
    longest = time.monotonic() - began
    killed = write_batch(project, SWEEP, "killed.yml")
    seen, again = soak(project, killed, project / "results" / "killed", 10, longest * 0.6, random.Random(1), *settings)
    assert not again
    assert seen[0]["done"] < 8, seen  # the first kill, at least, came before the end
    assert same_rows(*(project / "results" / name / "runs.csv" for name in ("undisturbed", "killed")))
    assert len(done_in(project / "results" / "killed")) == 8


def test_a_kernel_that_was_left_behind_is_waited_for(project):
    """The first kernel holds Python's own lock while its parent is killed, so that it cannot notice: it lives on for seconds."""
    cells = (
        "import ctypes, os, pathlib\nbefore = pathlib.Path('kernels.txt')\n"
        "pids = before.read_text().split() if before.is_file() else []\n"
        "files = [pathlib.Path('/proc', pid, 'cmdline') for pid in pids]\n"
        "beside = [str(file) for file in files if file.exists() and file.read_bytes()]  # a zombie's is empty\n"
        "before.open('a').write(f'{os.getpid()} ')\n"
        "if not pids:\n    ctypes.PyDLL(None).sleep(25)",
        "(run.folder / 'beside.txt').write_text(str(beside))\nrun.finish('beside.txt')",
    )
    file = only_first(project, *cells)
    with batch(project, file) as process:
        wait_until(lambda: (project / "kernels.txt").is_file() and (project / "kernels.txt").read_text().endswith(" "))
        process.kill()
        process.wait()  # not for the end of what it prints: the kernel has that open as well
        out, _ = (again := batch(project, file)).communicate(timeout=90)
    assert again.returncode == 0, out
    assert re.search(rf"^01_first waits for process {process.pid} on ", out, re.M), out
    assert len((project / "kernels.txt").read_text().split()) == 2
    assert (project / "results" / "small" / "01_first" / "beside.txt").read_text() == "[]"


def test_two_commands_at_once_do_every_stage_once(project):
    file = write_batch(project, SWEEP | {"parameters": {"seconds": 0.5}})
    processes = [batch(project, file) for _ in range(2)]
    outs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outs
    assert sorted(log_of(project, "end")) == sorted([arm, str(seed)] for arm in SWEEP["arms"] for seed in SWEEP["seeds"])
    assert any("waits for process" in out for out in outs)


def run_quietly(*command, place):
    here = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    command = [sys.executable, "-m", *command, *here]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place)


@pytest.fixture
def users_cluster(tmp_path_factory):
    """A scheduler and two workers in processes of their own: its address, and they."""
    place = tmp_path_factory.mktemp("dask")
    address_file = place / "scheduler.json"
    running = [run_quietly("distributed.cli.dask_scheduler", "--port", "0", "--scheduler-file", str(address_file), place=place)]
    try:
        wait_until(lambda: address_file.is_file() and address_file.read_text().endswith("}"))
        address = json.loads(address_file.read_text())["address"]
        one = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--name")
        running += [run_quietly(*one, name, place=place) for name in ("w0", "w1")]
        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, running
    finally:
        for process in running:
            process.kill()
            process.wait()


def both_work(project):
    return len(log_of(project, "begin")) - len(log_of(project, "end")) == 2


def test_a_users_cluster_runs_the_batch_though_one_of_its_workers_is_killed(project, users_cluster):
    """The killed one leaves a kernel behind."""
    address, (_, victim, _) = users_cluster
    file = write_batch(project, SWEEP | {"parameters": {"seconds": 3.0}})
    process = batch(project, file, "--scheduler", address, "--threads", "1")
    wait_until(lambda: both_work(project))
    victim.kill()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert f"on the cluster at {address}" in out
    assert len(rows_of(project)) == 6
    begun, ended = log_of(project, "begin"), log_of(project, "end")
    assert sorted(ended) == sorted([arm, str(seed)] for arm in SWEEP["arms"] for seed in SWEEP["seeds"])
    assert len(begun) == 7, out  # what the killed worker had begun, its successor began again, and only that
    manifest = json.loads((project / "results" / "small" / "manifest.json").read_text())
    assert manifest["stages"]["03_last"]["worker"] == "w1"


def test_a_scheduler_that_is_gone_is_said(project, users_cluster):
    address, (scheduler, *_) = users_cluster
    process = batch(project, write_batch(project, SWEEP | {"parameters": {"seconds": 3.0}}), "--scheduler", address)
    wait_until(lambda: both_work(project))
    scheduler.kill()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1, out
    assert "The connection to the scheduler was lost" in out, out


def test_nobody_at_the_schedulers_address_is_said(project, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT", 0.5)
    assert main([str(write_batch(project, SWEEP)), "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert re.match(r"--scheduler: no Dask scheduler answers at 'tcp://127.0.0.1:1' ", capsys.readouterr().err)


# What the notebooks share of this machine.


def shared(project, monkeypatch, cores=8, memory=100.0, gpus=(), batch=SWEEP, **asked):
    monkeypatch.setattr(cluster, "CPU_COUNT", cores)
    monkeypatch.setattr(cluster, "MEMORY_LIMIT", memory * 2**30)
    monkeypatch.setattr(cluster, "_gpus", lambda: list(gpus))
    return cluster.share_out(plan(write_batch(project, batch), {}), asked.get("workers"), asked.get("threads"))


def test_as_many_notebooks_run_side_by_side_as_cores_and_memory_allow_and_there_are_runs(project, monkeypatch):
    assert [shared(project, monkeypatch, cores=n).workers for n in (1, 4, 8)] == [1, 4, 6]
    assert [shared(project, monkeypatch, memory=gib).workers for gib in (1.0, 9.5, 100.0)] == [1, 2, 6]
    found = shared(project, monkeypatch, cores=9, memory=12.0)
    assert found.why == "3 notebooks at a time, 3 threads each (9 cores, 12 GiB of memory, 4 for each, 6 independent runs)"
    assert set(found.threads.values()) == {3, 9}
    assert [label for label, threads in found.threads.items() if threads == 9] == ["01_first", "03_last"]


def test_a_gpu_has_one_notebook(project, monkeypatch):
    found = shared(project, monkeypatch, gpus=("0", "3"))
    assert (found.workers, found.devices) == (2, ("0", "3"))
    assert "2 GPUs, 6 independent runs" in found.why
    worker = type("", (), {"name": 1})
    assert cluster._environment(worker, 2, found.devices)["CUDA_VISIBLE_DEVICES"] == "3"
    more = type("", (), {"name": 4})
    assert cluster._environment(more, 2, found.devices)["CUDA_VISIBLE_DEVICES"] == "0"


def test_what_is_asked_for_is_given(project, monkeypatch):
    found = shared(project, monkeypatch, workers=5, threads=2)
    assert (found.workers, set(found.threads.values())) == (5, {2})
    assert found.why == "5 notebooks at a time, 2 threads each (as asked for)"


def test_gpus_are_those_that_the_process_may_use(monkeypatch):
    for said, found in (("2,5", ["2", "5"]), ("", []), ("-1", []), ("GPU-abc", ["GPU-abc"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
        assert cluster._gpus() == found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "/nowhere")
    assert cluster._gpus() == []


WRONG = [("--workers", "2", "--scheduler", "x"), ("--workers", "0"), ("--threads", "-1"), ("--workers", "x")]


@pytest.mark.parametrize("option", WRONG)
def test_workers_and_threads_are_counts(project, option):
    with pytest.raises(SystemExit) as ended:
        main([str(write_batch(project, SWEEP)), *option])
    assert ended.value.code == 2


# papermill's known traps.


def only_first(project, *cells):
    write_notebook(project / "notebooks" / "01_first.ipynb", BODIES["01_first"][0], RUN.format("01_first"), *cells)
    return write_batch(project, {"notebooks": ["01_first"]})


def test_a_kernel_that_does_not_start_is_started_again(project, monkeypatch, capsys):
    """Only its start: the cells run once."""
    starts = []
    start = execution.PapermillNotebookClient.start_new_kernel
    file = only_first(project, 'open("count.txt", "a").write("x")\nrun.finish()')

    def races(self, **options):
        starts.append(1)
        if len(starts) < working:
            raise RuntimeError("Kernel died before replying to kernel_info")
        start(self, **options)

    monkeypatch.setattr(execution.PapermillNotebookClient, "start_new_kernel", races)
    working = execution.KERNEL_STARTS
    assert main([str(file)]) == 0
    assert len(starts) == execution.KERNEL_STARTS
    assert (project / "count.txt").read_text() == "x"

    starts.clear()
    working = execution.KERNEL_STARTS + 1
    (project / "results" / "small" / "01_first" / "run.json").unlink()
    assert main([str(file)]) == 1
    assert len(starts) == execution.KERNEL_STARTS
    assert "01_first failed: its kernel died or did not start (Kernel died before" in capsys.readouterr().err


def test_a_kernel_that_dies_in_a_cell_is_not_started_again(project):
    file = only_first(project, 'import os\nopen("count.txt", "a").write("x")\nos.kill(os.getpid(), 9)')
    assert main([str(file)]) == 1
    assert (project / "count.txt").read_text() == "x"


def test_huge_outputs_arrive_whole(project):
    lines, shown = 20_000, 3_000
    cells = (
        f'for i in range({lines}):\n    print("line", i)',
        f"for i in range({shown}):\n    display(i)",
        'print("x" * 20_000_000)',
        "run.finish()",
    )
    assert main([str(only_first(project, *cells))]) == 0
    notebook = json.loads((project / "results" / "small" / "01_first" / "01_first.ipynb").read_text())
    printed, displayed, long, _ = [cell["outputs"] for cell in notebook["cells"][-4:]]
    assert "".join("".join(output["text"]) for output in printed) == "".join(f"line {i}\n" for i in range(lines))
    assert ["".join(output["data"]["text/plain"]) for output in displayed] == [str(i) for i in range(shown)]
    assert sum(len(line) for output in long for line in output["text"]) == 20_000_001


def test_outputs_and_failures_that_stood_in_the_source_are_gone(project):
    file = only_first(project, "run.finish()")
    path = project / "notebooks" / "01_first.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        cell["outputs"] = [{"output_type": "error", "ename": "Old", "evalue": "failure", "traceback": ["long ago"]}]
        cell["metadata"]["papermill"] = {"exception": True, "status": "failed"}
        cell["execution_count"] = 77
    notebook["metadata"]["papermill"] = {"exception": True, "input_path": str(project)}
    path.write_text(json.dumps(notebook))
    assert main([str(file)]) == 0
    text = (project / "results" / "small" / "01_first" / "01_first.ipynb").read_text()
    assert "long ago" not in text
    executed = json.loads(text)
    assert [cell["execution_count"] for cell in executed["cells"]] == [1, 2, 3, 4]
    assert not any(cell["metadata"]["papermill"]["exception"] for cell in executed["cells"])
    assert executed["metadata"]["papermill"]["exception"] is None
    assert str(project) not in text


def test_no_file_stays_open_behind_a_stage(project):
    file = write_batch(project, SWEEP)
    main([str(file)])
    before = len(os.listdir("/proc/self/fd"))
    main([str(file), "--set", "seconds=0.01"])
    assert len(os.listdir("/proc/self/fd")) - before < 3  # of seven stages
