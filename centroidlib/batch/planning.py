"""From a batch file to stages: which notebooks run in which folder with which parameters, and after which others."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from centroidlib.batch.notebooks import BatchError, Notebook, Scalar, read_notebook
from centroidlib.batch.reading import BatchFile, in_folder_name, nearest, read_batch, typed
from centroidlib.runs import folder_name, own_parameter, project_root


@dataclass(frozen=True)
class Stage:
    """One notebook to execute.

    Attributes:
        notebook: which.
        folder: where it works, results/<batch>/<run>/.
        parameters: what it is given beside its defaults.
        after: labels of the stages that must be done before.
        origins: where in the batch file a parameter was set.
    """

    notebook: Notebook
    folder: Path
    parameters: dict[str, Scalar]
    after: tuple[str, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The notebook's name without its ending."""
        return self.notebook.name

    @property
    def label(self) -> str:
        """Folder and name, as messages show it."""
        return self.name if self.folder.name == self.name else f"{self.folder.name}/{self.name}"

    @property
    def all_parameters(self) -> dict[str, Scalar]:
        """The notebook's defaults with what the batch gives."""
        return self.notebook.defaults | self.parameters

    @property
    def compares(self) -> bool:
        """Whether it is about all runs: it then takes those that there are, and tells which failed."""
        return "runs" in self.parameters

    @property
    def root(self) -> Path:
        """The project's root, which relative paths count from."""
        return self.folder.parents[2]


def plan(file: Path, settings: Mapping[str, Scalar], word_of: Callable[[Stage], str] = lambda stage: "missing") -> list[Stage]:
    """The stages of a batch file, each behind those it waits for, checked before anything runs.

    A notebook that declares `arm` runs once for each arm and seed. Every other is shared: listed before such a notebook
    it runs once for all arms that give it the same parameters (their centroid is the same), right before the first run
    that waits for it; listed after, once for all. An arm with `generator_of` takes another arm's averaged generator, so
    only notebooks that declare that parameter run for it.

    Args:
        file: the YAML batch file.
        settings: from --set; they win over the file, and `seed` replaces its seeds.
        word_of: a stage's state: what compares runs takes those of other seeds that are done, or failed, as well.

    Raises:
        BatchError: what is wrong in the file or the settings, and where.
    """
    batch = read_batch(file, settings)
    root = project_root(file.parent)
    if not (root / "notebooks").is_dir():
        root = project_root()  # the file lies outside the project, whoever runs it inside
    there = [path.stem for path in (root / "notebooks").glob("*.ipynb")]
    for name in batch.notebooks:
        if name not in there:
            hint = nearest(str(name), there)
            raise BatchError(f"{batch.where('notebooks')}: there is no notebook {name}.ipynb in notebooks/{hint}.")
    notebooks = [read_notebook(root / "notebooks" / f"{name}.ipynb") for name in batch.notebooks]
    _check(batch, notebooks)
    folder = root / "results" / file.stem
    if file.stem == "manual":
        raise BatchError(f"{file.name}: results/manual is for notebooks that are run by hand; give the batch another name.")
    seeds = set(batch.seeds)
    for seed in _seeds_on_disk(folder, batch.arms) - seeds if any("runs" in notebook.defaults for notebook in notebooks) else ():
        runs: dict[Path, set[str]] = {}
        for stage in _graph(batch, notebooks, folder, [seed], seeds):
            if "arm" in stage.parameters:
                runs.setdefault(stage.folder, set()).add(word_of(stage))
        if all("failed" in words or words <= {"done", "stale"} for words in runs.values()):
            seeds.add(seed)
    return _graph(batch, notebooks, folder, batch.seeds, seeds)


def _graph(batch: BatchFile, notebooks: list[Notebook], folder: Path, seeds: list[int], compared: Iterable[int]) -> list[Stage]:
    """The stages of runs of `seeds`; what compares runs takes those of `compared`."""
    per_arm = [notebook for notebook in notebooks if "arm" in notebook.defaults]
    first = notebooks.index(per_arm[0]) if per_arm else len(notebooks)
    before, after = notebooks[:first], [notebook for notebook in notebooks[first:] if notebook not in per_arm]
    stages: dict[str, Stage] = {}

    def add(notebook: Notebook, waits_for: list[str], arm: str, given: dict[str, Scalar]) -> list[str]:
        """Note the stage, once; the label to wait for."""
        parameters, origins = _given(batch, notebook, arm, {"batch": folder.name, **given})
        place = folder / folder_name(notebook.name, notebook.defaults | parameters)
        stage = Stage(notebook, place, parameters, tuple(waits_for), origins)
        known = stages.setdefault(stage.label, stage)
        if known.parameters != parameters:
            raise BatchError(f"{batch.name}: two runs with different parameters would share the folder {place.name}.")
        return [stage.label]

    def begin(arm: str) -> list[str]:
        """Note the shared notebooks that go before an arm's own; the label to wait for."""
        last: list[str] = []
        for notebook in before:
            last = add(notebook, last, arm, _shared_folders(batch, before, arm))
        return last

    ends: list[str] = []
    for arm in () if per_arm else batch.arms or [""]:
        ends += begin(arm)
    for seed in seeds:
        for arm in sorted(batch.arms, key=lambda arm: bool(batch.arms[arm].get("generator_of"))):
            last = begin(arm) + _makers_of_the_average(batch, arm, per_arm, seed)
            for notebook in _notebooks_of(batch, arm, per_arm):
                own: dict[str, Scalar] = {"arm": arm, "seed": seed}
                last = add(notebook, last, arm, own | _shared_folders(batch, before, arm))
            ends += last
    runs = " ".join(f"{arm}_seed{seed}" for seed in sorted(compared) for arm in batch.arms)
    for notebook in after:
        ends = add(notebook, ends, "", {"runs": runs})
    return list(stages.values())


def _given(batch: BatchFile, notebook: Notebook, arm: str, own: dict[str, Scalar]) -> tuple[dict[str, Scalar], dict[str, str]]:
    """What a notebook is given, each of its default's type, and where it was set."""
    of_arm = batch.arms.get(arm, {})
    wanted = batch.common | of_arm | own
    declared = [name for name in wanted if name in notebook.defaults]
    origins = {name: batch.where(*(("arms", arm) if name in of_arm else ("parameters",)), name) for name in declared}
    return {name: typed(name, wanted[name], notebook.defaults[name], origins[name]) for name in declared}, origins


def _shared_folders(batch: BatchFile, before: list[Notebook], arm: str) -> dict[str, Scalar]:
    """Where the shared notebooks before an arm's own work, by their own parameters: a folder for each set of parameters."""
    folders: dict[str, Scalar] = {}
    differing: dict[str, Scalar] = {}
    for notebook in before:
        common = notebook.defaults | _given(batch, notebook, "", {})[0]
        own = _given(batch, notebook, arm, {})[0]
        differing |= {name: value for name, value in own.items() if name in batch.arms.get(arm, {}) and value != common[name]}
        name = own_parameter(notebook.name)
        if differing and name not in notebook.defaults:
            raise BatchError(
                f"{batch.where('arms', arm, *differing)}: {next(iter(differing))} is a parameter of {notebook.path.name}, which "
                f"arms share. To run it once for each, it and the notebooks that read its files need a parameter {name!r}, which "
                "names its folder."
            )
        folders[name] = notebook.name + in_folder_name(differing)
    return folders


def _notebooks_of(batch: BatchFile, arm: str, per_arm: list[Notebook]) -> list[Notebook]:
    averaged = batch.arms[arm].get("generator_of")
    return [notebook for notebook in per_arm if not averaged or "generator_of" in notebook.defaults]


def _makers_of_the_average(batch: BatchFile, arm: str, per_arm: list[Notebook], seed: int) -> list[str]:
    """The last stage that makes what an averaged arm takes: the training of the arm it is the average of."""
    source = batch.arms[arm].get("generator_of")
    makers = [notebook.name for notebook in per_arm if source and "generator_of" not in notebook.defaults]
    return [f"{source}_seed{seed}/{name}" for name in makers[-1:]]


def _seeds_on_disk(folder: Path, arms: Iterable[str]) -> set[int]:
    matches = (re.fullmatch(r"(.+)_seed(-?\d+)", path.parent.name) for path in folder.glob("*/run.json"))
    return {int(match[2]) for match in matches if match and match[1] in arms}


def _check(batch: BatchFile, notebooks: list[Notebook]) -> None:
    """Refuse names that no notebook knows, and arms and seeds that cannot be."""
    per_arm = [notebook for notebook in notebooks if "arm" in notebook.defaults]
    before = notebooks[: notebooks.index(per_arm[0])] if per_arm else []
    if "seed" in batch.settings and not per_arm:
        raise BatchError("--set: no notebook of this batch has a parameter 'seed'.")
    for name in batch.common:
        _check_known(name, batch.where("parameters", name), notebooks, notebooks)
        if name == "generator_of":
            where = batch.where("parameters", name)
            raise BatchError(f"{where}: generator_of is what makes an arm another's average: it belongs to one arm.")
    for arm, own in batch.arms.items():
        where = batch.where("arms", arm)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", arm):
            raise BatchError(f"{where}: the arm {arm!r} names a folder; use letters, digits, dots and hyphens.")
        if len(arm) > 200:
            raise BatchError(f"{where}: the arm {arm[:40]}… names a folder, and is too long for one.")
        for name in own:
            where_name = f"{batch.where('arms', arm, name)}, arm {arm}"
            taking = per_arm if name in batch.grids else _notebooks_of(batch, arm, per_arm)
            _check_known(name, where_name, [*before, *taking], notebooks)
        source = own.get("generator_of")
        known = isinstance(source, str) and source in batch.arms and "generator_of" not in batch.arms[source]
        trained = batch.common | batch.arms[str(source)] if known else {}
        if source and not trained.get("ema"):
            hint = nearest(str(source), batch.arms)
            raise BatchError(
                f"{where}, arm {arm}: generator_of must name a trained arm with an `ema` above 0, not {source!r}{hint}."
            )
    for notebook in per_arm:
        if not batch.arms:
            name = notebook.path.name
            raise BatchError(f"{batch.name}: {name} runs once for each arm, and there are none: add some under `arms`.")
        if "seed" not in notebook.defaults:
            raise BatchError(f"{notebook.path.name} has a parameter 'arm' and needs one 'seed' as well.")
    for seed in batch.seeds:
        typed("seed", seed, 0, "--set" if "seed" in batch.settings else batch.where("seeds"))


def _check_known(name: str, where: str, taking: list[Notebook], notebooks: list[Notebook]) -> None:
    """Refuse a parameter that none of the notebooks `taking` it declares, or that the batch sets itself."""
    names = sorted({known for notebook in taking for known in notebook.defaults})
    if name not in names:
        raise BatchError(f"{where}: no notebook of this batch has a parameter {name!r}{nearest(name, names)}.")
    shared = {own_parameter(notebook.name) for notebook in notebooks if "arm" not in notebook.defaults}
    if name in ("batch", "arm", "seed", "runs") or name in shared:
        raise BatchError(f"{where}: {name!r} is set by the batch itself, from the file's name, arms and seeds.")
