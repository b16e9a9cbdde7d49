"""Copies of the project in which notebooks run, and parameters with which they take seconds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = {"count": 60, "steps": 4, "batch_size": 8, "width": 4, "history_every": 1, "samples_every": 2, "samples": 40, "points": 30}
TINY |= {"held_out_count": 30, "factor_steps": 2}
TINY_BENCHMARK = {
    "repeats": 1,
    "largest": 64,
    "images": 2,
    "files": 3,
    "lpips_pairs": 2,
    "network_weights": "seeded",
    "step_images": 4,
    "step_width": 4,
    "trivial_runs": 2,
    "bare_runs": 2,
    "sweep": False,
}


class Copy:
    """A copy of the project with a cache of its own, in which commands run as a user types them."""

    def __init__(self, folder):
        self.root = folder / "copy"
        for name in ("centroidlib", "notebooks"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.sources = {path: path.read_bytes() for path in self.root.glob("notebooks/**/*.*")}
        self.environment = os.environ | {"CENTROIDLIB_CACHE": str(folder / "cache"), "TORCH_HOME": str(folder / "no weights")}

    def python(self, *arguments, cwd="."):
        command = [sys.executable, "-m", *map(str, arguments)]
        return subprocess.run(command, cwd=self.root / cwd, env=self.environment, capture_output=True, text=True)
