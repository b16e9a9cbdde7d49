"""Tests of what every Φ is: conversions of images, weights that are looked for, fingerprints, devices, batches."""

import os

import pytest
import torch
from evil import Evil
from torch import nn

from centroidlib import VGG16Features, fingerprint, to_float, to_uint8
from centroidlib.features import device_of, finding_weights, in_batches


def test_uint8_to_float_and_back_are_exact():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    floats = to_float(images)
    assert floats.dtype == torch.float32
    assert (floats.min(), floats.max()) == (-1.0, 1.0)
    torch.testing.assert_close(floats.double(), images.double() / 127.5 - 1.0, rtol=0, atol=1e-7)
    assert torch.equal(to_uint8(floats), images)
    assert to_uint8(torch.tensor([-3.0, 0.0, 3.0])).tolist() == [0, 128, 255]


@pytest.mark.parametrize("before", [None, "0"])
def test_libraries_that_would_execute_code_are_kept_from_it(tmp_path, monkeypatch, before):
    torch.save(Evil(tmp_path / "executed"), tmp_path / "weights.pth")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    if before is not None:
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", before)
    with pytest.raises(ValueError, match="do not load"), finding_weights("it", "weights.pth", "do without"):
        torch.load(tmp_path / "weights.pth", weights_only=False)
    assert not (tmp_path / "executed").exists()
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == before


def test_fingerprints_see_every_weight():
    phi = VGG16Features(3, "random")
    before = fingerprint(phi)
    phi.layers[2].bias[-1] += 1e-6
    assert fingerprint(phi) != before


def test_a_function_has_no_fingerprint():
    with pytest.raises(TypeError, match=r"Φ must be a torch\.nn\.Module, not function: wrap"):
        fingerprint(lambda images: images)


def test_device_of_a_network_with_and_without_weights():
    assert device_of(nn.Linear(2, 2, device="meta")).type == "meta"
    assert device_of(nn.Flatten()).type == "cpu"


def test_in_batches_applies_to_every_image_once(images):
    sizes = []
    network = nn.Flatten()
    network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    found = torch.cat(list(in_batches(images, network, 5)))
    assert sizes == [5, 5, 3]
    assert torch.equal(found, to_float(images).flatten(1))
    layer = nn.Linear(768, 1)
    assert not next(in_batches(images, nn.Sequential(nn.Flatten(), layer))).requires_grad


def test_in_batches_measures_in_full_float32_and_leaves_the_settings_of_whoever_iterates(images):
    allowed = []
    network = nn.Flatten()
    network.register_forward_hook(lambda module, inputs, output: allowed.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    for _ in in_batches(images, network, 5):
        assert torch.backends.cudnn.allow_tf32 == before
        assert torch.is_grad_enabled()
    assert before
    assert allowed == [False] * 3
