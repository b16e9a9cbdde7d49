"""Throw-away projects whose notebooks need no torch: their kernels start in a second."""

import nbformat
import yaml

FIRST = """batch = "manual"  # folder in results/
source = "synthetic"  # where from
rate = 0.1  # a fraction
broken = ""  # how this notebook fails"""
PER_ARM = """batch = "manual"  # folder in results/
arm = "centroid"  # what is compared
seed = 0  # of everything
source = "synthetic"  # where from
steps = 10  # steps
lambda_ = 1.0  # weight
flip = False  # or not"""
LAST = """batch = "manual"  # folder in results/
runs = ""  # run folders"""
BODIES = {
    "01_first": (
        FIRST,
        'from centroidlib.runs import Run\nrun = Run("01_first", globals())',
        "import os, pathlib\n"
        'print(os.getcwd(), os.getcwd() + "/results/x.txt", repr(os.getcwd()), pathlib.Path.home() / "cache")\n'
        'if broken == "kernel":\n    os._exit(1)\n'
        'if broken == "cell":\n    raise ValueError(f"The folder {os.getcwd()}/data is empty.")',
        '(run.folder / "first.txt").write_text(f"{source} {rate!r} JPY_SESSION_NAME={os.environ.get(\'JPY_SESSION_NAME\')}")',
        'if broken != "silent":\n    run.finish("first.txt")',
    ),
    "02_run": (
        PER_ARM,
        'from centroidlib.runs import Run\nrun = Run("02_run", globals())\nrun.input("01_first/first.txt")',
        '(run.folder / "run.txt").write_text(f"{arm} {seed} {lambda_!r} {steps}")\nrun.finish("run.txt")',
    ),
    "03_last": (
        LAST,
        'from centroidlib.runs import Run\nrun = Run("03_last", globals())',
        'read = [run.input(f"{name}/run.txt").read_text() for name in runs.split()]',
        '(run.folder / "table.md").write_text(f"| the table of {runs} |")\nrun.finish("table.md")',
    ),
}
BATCH = {
    "notebooks": ["01_first", "02_run", "03_last"],
    "parameters": {"source": "faces"},
    "arms": {"baseline": {"lambda_": 0}, "centroid": {"lambda_": 40}},
    "seeds": [0],
}


def write_notebook(path, parameters, *cells, tag="parameters"):
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": [tag]})]
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)


def make_project(root):
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    for name, cells in BODIES.items():
        write_notebook(root / "notebooks" / f"{name}.ipynb", *cells)
    return root


def write_batch(root, content=None, name="small.yml"):
    path = root / "notebooks" / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content or BATCH, sort_keys=False), encoding="utf-8")
    return path
