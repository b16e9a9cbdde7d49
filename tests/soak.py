"""Kill a batch at random moments, start it again each time, and look whether it ends as if nothing had happened.

The tests call it with notebooks of a second. With the project's own: python tests/soak.py [--kills 10] [--seed 0] runs a sweep
of 2 arms and 3 seeds at tiny size in a copy of the project, undisturbed and disturbed, and writes results/soak/soak.json.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from centroidlib.runs import code_version, library_digest, read_record

ROOT = Path(__file__).parents[1]
SWEEP = """notebooks: [01_centroid, 02_train, 03_evaluate, 04_visualize, 05_compare]
parameters: {count: 60, steps: 8, batch_size: 8, width: 4, history_every: 1, samples_every: 2, samples: 40, points: 30}
arms:
  baseline: {lambda_: 0}
  centroid: {lambda_: 40}
seeds: [0, 1, 2]
"""


def batch(root, file, *options):
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "centroidlib.batch", str(file), *options]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def done_in(results):
    """What the records hold for done: when each stage's executed notebook was written."""
    records = {path.parent: read_record(path.parent).get("stages", {}) for path in results.glob("*/run.json")}
    stages = [(folder, name) for folder, stages in records.items() for name, stage in stages.items() if stage.get("notebook")]
    return {f"{folder.name}/{name}": (folder / f"{name}.ipynb").stat().st_mtime_ns for folder, name in stages}


def soak(root, file, results, kills, longest, rng, *options):
    """Kill the batch `kills` times, each after up to `longest` seconds, then let it end; what was seen, what was done twice."""
    seen = []
    for _ in range(kills):
        process = batch(root, file, *options)
        after = rng.uniform(0, longest)
        try:
            process.wait(after)
            out = process.stdout.read()
            assert process.returncode == 0, out
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        seen.append({"after_seconds": round(after, 2), "done": done_in(results)})
        process.stdout.close()
    process = batch(root, file, *options)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    last = done_in(results)
    again = sorted({stage for one in seen for stage, written in one["done"].items() if last[stage] != written})
    return [one | {"done": len(one["done"])} for one in seen], again


def same_rows(first, second):
    """Whether two runs.csv say the same, but for the batch's name."""
    tables = [pd.read_csv(path).drop(columns="batch", errors="ignore") for path in (first, second)]
    return tables[0].equals(tables[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    chosen = parser.parse_args()
    code, library = code_version(), library_digest()
    folder = Path(tempfile.mkdtemp())
    for name in ("centroidlib", "notebooks"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    os.environ["CENTROIDLIB_CACHE"] = str(folder / "cache")
    times = {}
    for name in ("undisturbed", "killed"):
        file = folder / "notebooks" / "batches" / f"{name}.yml"
        file.write_text(SWEEP)
        results, began = folder / "results" / name, time.monotonic()
        kills = chosen.kills if name == "killed" else 0
        seen, again = soak(folder, file, results, kills, times.get("undisturbed", 0) / 5, random.Random(chosen.seed))
        times[name] = time.monotonic() - began
    same = same_rows(*(folder / "results" / name / "runs.csv" for name in times))
    record = {
        "what": "2 arms, 3 seeds, 20 stages at tiny size: killed (SIGKILL) and started again, against undisturbed",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "code": code,
        "library": library,
        "seconds": {name: round(seconds, 1) for name, seconds in times.items()},
        "kills": seen,
        "stages_done_that_ran_again": again,
        "runs_csv_the_same": same,
    }
    target = ROOT / "results" / "soak" / "soak.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    shutil.rmtree(folder)
    return 0 if same and not again else 1


if __name__ == "__main__":
    sys.exit(main())
