"""The command line: python -m centroidlib.batch FILE.yml [--set name=value ...]; --help says the rest."""

import argparse
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

from centroidlib.batch.notebooks import BatchError
from centroidlib.batch.planning import Stage, plan
from centroidlib.batch.reading import read_settings
from centroidlib.batch.report import DONE, Progress, failures, manifest_of, status, summary, write_manifest
from centroidlib.batch.state import check_paths, look_again, state_of, what_runs


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when every stage is done, 1 when one failed, 2 when the batch is wrong, 130 when it was stopped."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.scheduler is not None and chosen.workers:
        parser.error("--workers is of this machine's own cluster: the one at --scheduler has as many as it has")
    look_again()
    try:
        stages = plan(chosen.file, read_settings(chosen.settings), lambda stage: state_of(stage).word)
        if chosen.dry_run:
            for stage in stages:
                print(stage.label, *(f"{name}={value}" for name, value in stage.all_parameters.items()), sep="  ")
            return 0
        states = what_runs(stages, chosen.rerun_stale)
        if chosen.status:
            print(status(stages, states))
            return 0
        running = [stage for stage in stages if states[stage.label][0].runs(chosen.rerun_stale)]
        check_paths(running)
        if not running:
            print(status(stages, states) + "\n\nNothing is left to do.\n" + summary(stages))
            return 0
        return _run(chosen, stages, running, {label: needed for label, (_, needed) in states.items()})
    except BatchError as error:
        print(error, file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped before anything ran.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m centroidlib.batch",
        description="Run a batch of notebooks: what is missing, failed or changed. Ctrl-C stops it; run again, it goes on.",
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE.yml", help="the batch file")
    add("--set", nargs="+", default=[], action="extend", metavar="name=value", dest="settings",
        help="parameters that win over the file's; seed=N replaces its seeds")  # fmt: skip
    add("--status", action="store_true", help="say what is done and why the rest would run; run nothing")
    add("--dry-run", action="store_true", help="list notebooks and parameters; run nothing")
    add("--rerun-stale", action="store_true", help="also run what other code of the library made")
    add("--workers", type=_above_0, metavar="N", help="notebooks side by side; without it as many as cores, memory or GPUs allow")
    add("--threads", type=_above_0, metavar="N", help="threads of each; without it its share of the cores")
    add("--scheduler", metavar="ADDRESS", help="run on the Dask cluster whose scheduler listens there, such as tcp://host:8786")
    return parser


def _run(chosen: argparse.Namespace, stages: list[Stage], running: list[Stage], needed: dict[str, tuple[str, ...]]) -> int:
    # Dask and papermill take seconds to import, which --status has not.
    from centroidlib.batch import cluster

    folder = stages[0].folder.parent
    if chosen.scheduler is not None:
        threads = {stage.label: chosen.threads or 0 for stage in stages}
        resources = cluster.Resources(0, threads, (), f"on the cluster at {chosen.scheduler}")
        clients = cluster.users_cluster(chosen.scheduler)
    else:
        resources = cluster.share_out(stages, chosen.workers, chosen.threads)
        clients = cluster.local_cluster(resources)
    print(f"{folder.name}: {len(stages)} stages, {len(running)} to run; {resources.why}", flush=True)
    manifest = manifest_of(chosen.file, chosen.settings, resources.why, stages[0].root)
    write_manifest(manifest, stages, {}, folder)  # what is wrong with the folder is known before any work
    progress = Progress(len(running))

    def note() -> None:
        try:
            write_manifest(manifest, stages, progress.outcomes, folder)
        except (ValueError, OSError) as error:  # the runs matter more
            print(error, file=sys.stderr)

    def told(event: Any) -> None:
        progress(event)
        if event.get("state", "done") not in ("done", "stale"):
            note()

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's end of time is a Ctrl-C
    try:
        with clients as client:
            batch = f"{folder.name}-{uuid.uuid4().hex[:8]}"
            try:
                stopped = cluster.run_all(client, stages, needed, batch, chosen.rerun_stale, resources, told)
            except KeyboardInterrupt:
                print("\nStopped at once.", flush=True)
                os._exit(130)  # closing the cluster would wait for the notebooks; kernels end with the process they belong to
    finally:
        signal.signal(signal.SIGTERM, before)
        progress.close()
    note()
    print(summary(stages), flush=True)
    print(failures(stages, progress.outcomes), end="", file=sys.stderr)
    if stopped:
        print("\nStopped: what is done is kept, and training continues from its checkpoint when the batch is run again.")
        return 130
    return 0 if all(event["state"] in DONE for event in progress.outcomes.values()) else 1


def _above_0(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
