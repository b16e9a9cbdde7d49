"""The command line: python -m centroidlib.batch FILE.yml [--set name=value ...] [--dry-run]."""

import argparse
import sys
import time
from pathlib import Path

from centroidlib.batch.execution import execute, is_done
from centroidlib.batch.planning import BatchError, declared_parameters, plan, read_settings


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when every stage is done, 1 when one failed, 2 when the batch is wrong."""
    parser = argparse.ArgumentParser(prog="python -m centroidlib.batch", description="Run a batch of notebooks.")
    parser.add_argument("file", type=Path, metavar="FILE.yml", help="the batch file")
    parser.add_argument("--set", nargs="+", default=[], action="extend", metavar="name=value", dest="settings",
                        help="parameters that win over the file's; seed=N replaces its seeds")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list the notebooks and parameters, run nothing")
    chosen = parser.parse_args(arguments)
    try:
        stages = plan(chosen.file, read_settings(chosen.settings))
    except BatchError as error:
        print(error, file=sys.stderr)
        return 2
    if chosen.dry_run:
        for stage in stages:
            parameters = declared_parameters(stage.notebook) | stage.parameters
            print(stage.label, *(f"{name}={value}" for name, value in parameters.items()), sep="  ")
        return 0
    results = stages[0].folder.parent
    root = results.parent.parent
    for number, stage in enumerate(stages, 1):
        head = f"[{number}/{len(stages)}] {stage.label}"
        began = time.perf_counter()
        try:
            if is_done(stage):
                print(f"{head}: done before, skipped", flush=True)
                continue
            print(f"{head} …", flush=True)
            execute(stage)
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"\nStopped in {stage.label}: finished stages are kept, and training continues when the batch is run again.")
            return 130
        print(f"{head}: {time.perf_counter() - began:.0f} s", flush=True)
    _show(results, root)
    return 0


def _show(results: Path, root: Path) -> None:
    """The comparison, where there is one, and where the notebooks and figures lie."""
    for table in sorted(results.glob("*/table.md")):
        print("\n" + table.read_text(encoding="utf-8").strip())
    print(f"\nExecuted notebooks and figures, in {results.relative_to(root)}/:")
    for folder in sorted(p for p in results.iterdir() if p.is_dir()):
        names = sorted(p.name for p in folder.iterdir() if p.suffix in (".ipynb", ".png") and not p.name.startswith("."))
        print(f"  {folder.name}/  {'  '.join(names)}")


if __name__ == "__main__":
    sys.exit(main())
