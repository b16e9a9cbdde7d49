"""What the tests share: private folders for caches, one thread, small images, Φ and a centroid."""

import dataclasses
import signal
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from small_runs import write_run
from torch import nn

from centroidlib import TrainingConfig, VGG16Features, centroid_distances, compute_centroid, draw_faces
from centroidlib.algorithm import start
from centroidlib.batch.state import look_again
from centroidlib.streams import draw_latents, random_stream

TINY = TrainingConfig(steps=6, batch_size=4, lambda_=10.0, unit="d_ref", latent=8, width=2, precision="float32")
LONGEST = ("test_browser", "test_notebooks", "test_notebooks_otherwise")
REAL_WEIGHTS = Path(__file__).parents[2] / "shared" / "torch_home"


def pytest_collection_modifyitems(items):
    """The longest files go first: what starts last of several processes is what the others wait for."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """A shell that starts the tests in the background has Ctrl-C ignored, by them and by all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _forgetful():
    """What a test made believe of the library's code is forgotten after it."""
    yield
    look_again()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The library's cache folder, empty and this test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CENTROIDLIB_CACHE", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch):
    """A machine without a network: whatever is opened over it fails as a name that is not found does."""

    def refuse(*args, **kwargs):
        raise URLError("no network in this test")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def torch_home(tmp_path_factory, monkeypatch, offline):
    """An empty torch cache on a machine without a network; weights go to its hub/checkpoints."""
    folder = tmp_path_factory.mktemp("torch_home")
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(folder))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    return folder


@pytest.fixture
def real_weights(monkeypatch, offline):
    """The published weights, where they lie beside the project (../shared/torch_home)."""
    if not REAL_WEIGHTS.is_dir():
        pytest.skip(f"the published weights are not in {REAL_WEIGHTS.parent.name}/{REAL_WEIGHTS.name} beside the project")
    monkeypatch.setenv("TORCH_HOME", str(REAL_WEIGHTS))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    return REAL_WEIGHTS


@pytest.fixture(scope="session")
def images():
    """Random uint8 images (13, 3, 16, 16): not a multiple of any batch size in use."""
    return torch.randint(0, 256, (13, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def phi():
    """A small Φ: VGG-16 to relu1_1 with random weights, pooled to d = 64."""
    return VGG16Features(2, "random", pool=True)


@pytest.fixture(scope="session")
def stats(images, phi):
    return compute_centroid(images, phi)


@pytest.fixture(scope="session")
def faces():
    """Drawn faces, uint8 (22, 3, 64, 64)."""
    return draw_faces(22, seed=1)[0]


@pytest.fixture(scope="session")
def toy_phi():
    """A smooth Φ of a few thousand weights for images of 64×64, d = 12."""
    layers = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 12), nn.Tanh())
    rng = torch.Generator().manual_seed(0)
    for parameter in layers.parameters():
        parameter.data.normal_(0.0, 0.3, generator=rng)
    return layers.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def toy_stats(faces, toy_phi):
    """The faces' centroid, with a ball small enough that generated images lie inside and outside of it."""
    found = compute_centroid(faces, toy_phi)
    fake = start(TINY).generator(latents_of(0))
    distances = centroid_distances(toy_phi(fake.detach()), found)
    return dataclasses.replace(found, reference_distance=float(distances.median()))


def latents_of(step):
    """Latents of a batch of TINY, others for every step."""
    return draw_latents(TINY.batch_size, TINY.latent, random_stream(0, "test", step))


@pytest.fixture
def folders(tmp_path):
    """Folders of evaluated runs: two arms of three seeds."""
    values = {"baseline": [30.0, 33.0, 31.0], "centroid": [28.0, 30.0, 29.5]}
    return [write_run(tmp_path / f"{arm}_seed{s}", arm, s, v) for arm, vs in values.items() for s, v in enumerate(vs)]


@pytest.fixture
def two_protocols(folders, tmp_path):
    """The same, and a seed of each arm that was measured otherwise."""
    other = [write_run(tmp_path / f"{arm}_seed9", arm, 9, 3.0, "xyz", resize="lanczos") for arm in ("baseline", "centroid")]
    return [*folders, *other]
