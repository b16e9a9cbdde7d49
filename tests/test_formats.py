"""Tests of the files a measurement leaves: metrics.json with its fingerprint, and pytorch-fid's statistics."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import centroidlib as cl
from centroidlib.evaluation import Space
from centroidlib.metrics import Gaussian


def gaussian(dims=3):
    return Gaussian(np.arange(dims, dtype=np.float64), np.eye(dims) + 0.1)


def spaces(layer=1):
    return [Space("fd_x", cl.VGG16Features(layer, "random", pool=True), False)]


SETTINGS = {
    "samples": 24,
    "lpips": {"alex": nn.Linear(1, 1)},
    "pairs": 100,
    "crop": 1.0,
    "resize": "bilinear",
    "batch_norm": "eval",
}


def test_the_file_has_one_form_and_a_fingerprint_of_the_protocol(images, phi, tmp_path):
    entries = {"fd_x": {"value": 1.0, "low": None}}

    def written(real=images, held_out=images, measured=(), features=phi, **changes):
        protocol = cl.protocol_of(real, held_out, list(measured) or spaces(), features, **(SETTINGS | changes))
        return cl.write_metrics(tmp_path / "metrics.json", entries, protocol)

    first = written()
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert set(content) == {"fingerprint", "protocol", "metrics"}
    assert content["fingerprint"] == first == written()
    assert content["metrics"] == entries
    changes = [
        {"crop": 0.9},
        {"resize": "lanczos"},
        {"samples": 25},
        {"lpips": {}},
        {"lpips": {"vgg": nn.Linear(1, 1)}},
        {"lpips": {"alex": nn.Linear(1, 2)}},
        {"pairs": 99},
    ]
    changes += [{"batch_norm": "train"}, {"real": images[:-1]}, {"held_out": None}, {"measured": spaces(2)}, {"features": None}]
    changes += [
        {"features": cl.VGG16Features(2, "random", pool=True, seed=1)},
        {"features": cl.VGG16Features(1, "random", pool=True)},
    ]
    assert len({first, *(written(**change) for change in changes)}) == 1 + len(changes)


def test_the_fingerprint_is_that_of_what_is_measured_not_of_the_machine(images, phi, tmp_path):
    protocol = cl.protocol_of(images, None, spaces(), phi, **SETTINGS)
    text = json.dumps(protocol)
    assert torch.__version__ not in text
    assert "cpu" not in text
    assert protocol["quantiser"] == "uint8, rounded"


def test_floors_are_read_under_the_protocol_they_were_measured_under(images, phi, tmp_path):
    path, floors = tmp_path / "floors.json", {"fd_x": {"floor": 0.5, "floor_heldout": None, "n": 5}}
    protocol = cl.protocol_of(images, None, spaces(), phi, **SETTINGS)
    cl.write_floors(path, floors, protocol)
    assert cl.read_floors(path, protocol) == floors
    assert cl.read_floors(path, protocol | {"batch_norm": "train"}) == floors
    with pytest.raises(
        ValueError, match=r"floors\.json were measured under another protocol \(crop = 1.0 there, 0.9 here\): run 01"
    ):
        cl.read_floors(path, protocol | {"crop": 0.9})


@pytest.mark.parametrize("content", ["", "[]", '{"fid": 1}'])
def test_damaged_floors_are_refused(tmp_path, content):
    (tmp_path / "floors.json").write_text(content)
    with pytest.raises(ValueError, match=r"floors\.json holds no floors of this library, or is damaged: run 01_centroid again"):
        cl.read_floors(tmp_path / "floors.json", {})


def test_a_metric_that_is_not_finite_never_reaches_the_file(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("what was there")
    with pytest.raises(ValueError, match="JSON"):
        cl.write_metrics(path, {"fid": {"value": float("nan")}}, {})
    assert path.read_text() == "what was there"


def test_statistics_are_read_as_they_were_written(tmp_path):
    cl.save_statistics(tmp_path / "real.npz", gaussian())
    found = cl.load_statistics(tmp_path / "real.npz")
    assert all(np.array_equal(a, b) for a, b in zip(found, gaussian(), strict=True))


def test_pytorch_fid_reads_ours_and_we_read_its(tmp_path):
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    cl.save_statistics(tmp_path / "ours.npz", gaussian())
    mean, covariance = fid_score.compute_statistics_of_path(str(tmp_path / "ours.npz"), None, 50, 3, "cpu")
    assert np.array_equal(mean, gaussian().mean)
    np.savez_compressed(tmp_path / "theirs.npz", mu=mean, sigma=covariance)
    assert np.array_equal(cl.load_statistics(tmp_path / "theirs.npz").covariance, covariance)


@pytest.mark.parametrize("content", ["absent", "empty", "text", "cut", "names", "shapes", "nan", "pickle", "array"])
def test_what_holds_no_statistics_is_refused(tmp_path, content):
    path = tmp_path / "real.npz"
    mean, covariance = gaussian()
    cl.save_statistics(path, gaussian())
    if content in ("empty", "text", "cut"):
        path.write_bytes({"empty": b"", "text": b"mu and sigma", "cut": path.read_bytes()[:-60]}[content])
    elif content == "absent":
        path.unlink()
    elif content == "array":
        with open(path, "wb") as file:
            np.save(file, mean)
    elif content == "names":
        np.savez(path, mean=mean, cov=covariance)
    elif content == "shapes":
        np.savez(path, mu=mean, sigma=covariance[:2])
    elif content == "nan":
        np.savez(path, mu=mean * np.nan, sigma=covariance)
    else:
        np.savez(path, mu=np.array([object()]), sigma=covariance)
    with pytest.raises(
        (ValueError, FileNotFoundError),
        match=r"real\.npz.*(mu and sigma|writes one|\(d,\) and \(d, d\)).*(make (it|the file) again|of real images)",
    ):
        cl.load_statistics(path)
