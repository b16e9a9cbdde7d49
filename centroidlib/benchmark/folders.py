"""Folders that what is timed works in, gone when the process ends: image files, and projects of notebooks."""

import atexit
import shutil
import tempfile
from pathlib import Path

import nbformat
from PIL import Image
from torch import Tensor

TRIVIAL = (
    'batch = "manual"  # folder in results/\narm = "a"  # of the batch\nseed = 0  # of nothing',
    'from centroidlib.runs import Run\n\nrun = Run("01_trivial", globals())',
    '(run.folder / "seed.txt").write_text(str(seed))\nrun.finish("seed.txt")',
)
BARE = """from sys import argv
from papermill import execute_notebook
for seed in range(int(argv[1])):
    parameters = {"batch": "bare", "seed": seed}
    execute_notebook("notebooks/01_trivial.ipynb", "out.ipynb", parameters, kernel_name="python3", progress_bar=False)
"""
ONE = "notebooks: [01_trivial]\narms: {a: {}}\n"
SWEEP = """notebooks: [01_centroid, 02_train, 03_evaluate, 04_visualize, 05_compare]
parameters: {count: 60, steps: 8, batch_size: 8, width: 4, history_every: 1, samples_every: 2, samples: 40, points: 30}
arms: {baseline: {lambda_: 0}, centroid: {lambda_: 40}}
seeds: [0, 1, 2]
"""


def temporary_folder() -> Path:
    """A new folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def as_files(images: Tensor) -> Path:
    """A folder of PNG files of uint8 images (N, 3, H, W), alone in its own folder, as torchvision's ImageFolder wants it."""
    folder = temporary_folder() / "images"
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:05d}.png")
    return folder


def trivial_project(runs: int) -> Path:
    """A project whose one notebook does nothing but note that it ran.

    notebooks/one.yml runs it once and notebooks/many.yml so many times; bare.py does so through papermill alone, as many
    times as its argument says.
    """
    folder = temporary_folder()
    (folder / "notebooks").mkdir()
    (folder / "pyproject.toml").touch()
    (folder / "bare.py").write_text(BARE)
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in TRIVIAL]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / "notebooks" / "01_trivial.ipynb")
    (folder / "notebooks" / "one.yml").write_text(ONE)
    (folder / "notebooks" / "many.yml").write_text(f"{ONE}seeds: {list(range(runs))}\n")
    return folder


def sweep_project(root: Path) -> Path:
    """A copy of a project's notebooks with notebooks/sweep.yml, which runs 20 of them at tiny size: two arms, three seeds."""
    folder = temporary_folder()
    shutil.copytree(root / "notebooks", folder / "notebooks")
    (folder / "pyproject.toml").touch()
    (folder / "notebooks" / "sweep.yml").write_text(SWEEP)
    return folder
