"""Tests of the paper's Φ: torchvision's VGG-16, frozen, with weights that are checked before they are used."""

import copy
import itertools
import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from evil import Evil
from torch import nn
from torch.nn import functional
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from centroidlib import VGG16Features, fingerprint, vgg
from centroidlib.vgg import layer_name

FILES = {"IMAGENET1K_V1": "vgg16-397923af.pth", "IMAGENET1K_FEATURES": "vgg16_features-amdegroot-88682ab5.pth"}
CLASSIFIER = {32: "fc6", 33: "relu6", 34: "drop6", 35: "fc7", 36: "relu7", 37: "drop7", 38: "fc8"}


@pytest.fixture
def batch():
    return 2.0 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(7)) - 1.0


@pytest.fixture
def narrow_vgg(monkeypatch):
    """torchvision's VGG-16 with the same layers, and few channels in each; returns its constructor."""

    def vgg16(weights=None, init_weights=False):
        assert weights is None
        vgg = nn.Module()
        vgg.features = make_layers([layer if layer == "M" else layer // 16 for layer in cfgs["D"]])
        vgg.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        vgg.classifier = nn.Sequential(
            *[nn.Linear(32 * 49, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(True), nn.Dropout()],
            nn.Linear(16, 10),
        )
        return vgg

    monkeypatch.setattr(torchvision.models, "vgg16", vgg16)
    return vgg16


@pytest.fixture
def published(narrow_vgg, torch_home):
    """Writes a state to the file of weights in the torch cache; returns a function that does so."""

    def write(weights="IMAGENET1K_V1", change=None):
        torch.manual_seed(0)
        network = narrow_vgg()
        state = network.state_dict()
        if change is not None:
            change(state)
        torch.save(state, torch_home / "hub" / "checkpoints" / FILES[weights])
        return network.eval()

    return write


def normalised(images, weights):
    """Images in [-1, 1] as the weights' own preset brings them to the network, in float64."""
    preset = VGG16_Weights[weights].transforms()
    mean, std = (torch.tensor(numbers, dtype=torch.float64).view(1, 3, 1, 1) for numbers in (preset.mean, preset.std))
    return (((images.double() + 1.0) / 2.0 - mean) / std).float()


def weights_of(phi):
    """A plain torchvision slice of VGG-16 with Φ's weights."""
    plain = make_layers(cfgs["D"])[: phi.layer]
    plain.load_state_dict(phi.layers.state_dict())
    return plain.eval()


@pytest.mark.parametrize("layer", [1, 2, 5, 9, 16, 17])
def test_features_are_torchvisions_slice(batch, layer):
    phi = VGG16Features(layer, "random")
    with torch.no_grad():
        expected = weights_of(phi)(normalised(batch, "IMAGENET1K_V1"))
    found = phi(batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.flatten(1), rtol=1e-4, atol=1e-5)


def test_the_papers_layer_has_65536_features_at_64_pixels():
    phi = VGG16Features(weights="random")
    assert phi.layer == 16
    assert phi(torch.zeros(1, 3, 64, 64)).shape == (1, 65_536)
    assert VGG16Features(16, "random", pool=True)(torch.zeros(1, 3, 64, 64)).shape == (1, 256)


def test_pooling_averages_over_positions(batch):
    flat, pooled = VGG16Features(9, "random")(batch), VGG16Features(9, "random", pool=True)(batch)
    torch.testing.assert_close(pooled, flat.view(2, 128, 256).mean(2))


def test_resizing_brings_images_to_224(batch, narrow_vgg):
    plain, resized = VGG16Features(2, "random"), VGG16Features(2, "random", resize=True)
    larger = functional.interpolate(batch, (224, 224), mode="bilinear", antialias=True)
    torch.testing.assert_close(resized(batch), plain(larger))


@pytest.mark.parametrize("weights", list(FILES))
@pytest.mark.parametrize("layer", [3, 16, 31, *CLASSIFIER])
def test_published_weights_go_where_torchvision_puts_them(batch, published, weights, layer):
    vgg = published(weights)
    phi = VGG16Features(layer, weights)
    with torch.no_grad():
        if layer <= 31:
            expected = vgg.features[:layer](normalised(batch, weights)).flatten(1)
        else:
            larger = functional.interpolate(batch, (224, 224), mode="bilinear", antialias=True)
            x = vgg.avgpool(vgg.features(normalised(larger, weights))).flatten(1)
            expected = vgg.classifier[: layer - 31](x)
    torch.testing.assert_close(phi(batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("weights", "layer"), [("IMAGENET1K_V1", 9), ("IMAGENET1K_FEATURES", 16)])
def test_features_are_torchvisions_with_the_real_weights(batch, real_weights, weights, layer):
    plain = make_layers(cfgs["D"])[:layer]
    state = torch.load(real_weights / "hub" / "checkpoints" / FILES[weights], weights_only=True)
    plain.load_state_dict({key.removeprefix("features."): state[key] for key in state if int_of(key) < layer})
    with torch.no_grad():
        expected = plain(normalised(batch, weights)).flatten(1)
    assert torch.isfinite(expected).all()
    found = VGG16Features(layer, weights)(batch)
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize(("weights", "layer"), [("IMAGENET1K_V1", 11), ("IMAGENET1K_FEATURES", 18)])
def test_the_real_files_are_refused_beyond_what_is_real(real_weights, weights, layer):
    with pytest.raises(ValueError, match=f"hold NaN in {layer_name(layer)}, layer {layer} of the {layer} in use"):
        VGG16Features(layer, weights)
    VGG16Features(layer - 1, weights)


def int_of(key):
    group, number, _ = key.split(".")
    return int(number) if group == "features" else 99


def test_input_gets_gradients_and_parameters_stay_untouched(batch):
    phi = VGG16Features(5, "random")
    before = copy.deepcopy(phi.state_dict())
    batch.requires_grad_()
    optimiser = torch.optim.SGD(itertools.chain(phi.parameters(), [batch]), lr=1.0)
    phi(batch).square().mean().backward()
    assert batch.grad.isfinite().all()
    assert (batch.grad.abs().amax((1, 2, 3)) > 0).all()
    optimiser.step()
    assert not any(parameter.requires_grad for parameter in phi.parameters())
    assert all(parameter.grad is None for parameter in phi.parameters())
    assert all(torch.equal(value, before[key]) for key, value in phi.state_dict().items())


def test_gradients_agree_with_torchvisions_slice(batch):
    phi = VGG16Features(9, "random")
    gradients = []
    for network, prepare in ((phi, lambda x: x), (weights_of(phi), lambda x: normalised(x, "IMAGENET1K_V1"))):
        leaf = batch.clone().requires_grad_()
        network(prepare(leaf)).flatten(1).norm(dim=1).sum().backward()
        gradients.append(leaf.grad)
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def test_images_are_not_changed(batch):
    kept = batch.clone()
    VGG16Features(2, "random")(batch)
    assert torch.equal(batch, kept)


def test_it_stays_in_eval_mode_within_a_trained_owner(batch, narrow_vgg):
    phi = VGG16Features(34, "random")  # the last layer in use is a dropout
    owner = nn.Sequential(phi).train()
    assert owner.training
    assert not any(module.training for module in phi.modules())
    phi.train()
    assert not any(module.training for module in phi.modules())
    assert torch.equal(phi(batch), phi(batch))


def test_random_weights_come_from_the_seed_alone(batch):
    first = VGG16Features(4, "random", seed=5)
    torch.rand(3)
    assert torch.equal(first(batch), VGG16Features(4, "random", seed=5)(batch))
    assert not torch.allclose(first(batch), VGG16Features(4, "random", seed=6)(batch), rtol=0.1)
    deeper = VGG16Features(5, "random", seed=5)
    assert torch.equal(first.layers[0].weight, deeper.layers[0].weight)


def test_making_random_weights_leaves_torchs_own_seed_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    VGG16Features(2, "random")
    assert torch.equal(torch.rand(2), expected)


def test_under_autocast_features_are_float32_and_close(batch):
    phi = VGG16Features(9, "random")
    exact = phi(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = phi(batch)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert (exact - rough).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("layer", [0, -1, 39])
def test_layers_that_are_not_there_are_refused(layer):
    with pytest.raises(ValueError, match=f"VGG-16 has layers 1 to 38, not {layer}: 16 is relu3_3"):
        VGG16Features(layer, "random")


def test_wrong_names_of_weights_are_refused():
    with pytest.raises(ValueError, match="no weights 'imagenet'; choose one of IMAGENET1K_V1, IMAGENET1K_FEATURES, random"):
        VGG16Features(2, "imagenet")


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 1, 8, 8), torch.zeros(3, 8, 8)],
    ids=["uint8", "grey", "one"],
)
def test_images_of_another_form_are_refused(phi, images):
    with pytest.raises(ValueError, match=r"Φ takes float images \(B, 3, H, W\) in \[-1, 1\], not torch\.\w+ \("):
        phi(images)


def test_layer_names_are_the_literatures():
    blocks = [(1, 2), (2, 2), (3, 3), (4, 3), (5, 3)]
    expected = []
    for block, convolutions in blocks:
        for convolution in range(1, convolutions + 1):
            expected += [f"conv{block}_{convolution}", f"relu{block}_{convolution}"]
        expected.append(f"pool{block}")
    assert [layer_name(layer) for layer in range(1, 39)] == [*expected, *CLASSIFIER.values()]


def test_names_tell_where_the_weights_are_from(published):
    for weights in FILES:
        published(weights)
    assert VGG16Features(16, "random").name == "vgg16_random_relu3_3"
    assert VGG16Features(17, "IMAGENET1K_V1").name == "vgg16_pool3"
    assert VGG16Features(9, "IMAGENET1K_FEATURES").name == "vgg16_oxford_relu2_2"


def test_the_whole_networks_shapes_are_torchvisions():
    ours = [tuple(tensor.shape) for tensor in vgg._slice(38).state_dict().values()]
    with torch.device("meta"):
        theirs = [tuple(tensor.shape) for tensor in torchvision.models.vgg16().state_dict().values()]
    assert ours == theirs


# Weights that are absent, damaged or malicious


@pytest.mark.parametrize("weights", list(FILES))
def test_absent_weights_off_line_name_the_file_its_folder_and_what_else_to_do(torch_home, weights):
    with pytest.raises(FileNotFoundError) as caught:
        VGG16Features(2, weights)
    sentence = str(caught.value)
    assert FILES[weights] in sentence
    assert "hub/checkpoints" in sentence
    assert "TORCH_HOME" in sentence
    assert "weights = 'random'" in sentence
    assert "no network in this test" in sentence


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize(("key", "layer", "name"), [("features.7.bias", 8, "conv2_2"), ("classifier.3.weight", 35, "fc7")])
def test_weights_that_are_nan_in_a_used_layer_are_refused(published, broken, key, layer, name):
    published(change=lambda state: state[key].view(-1)[-1:].fill_(broken))
    with pytest.raises(ValueError, match=rf"IMAGENET1K_V1 \({FILES['IMAGENET1K_V1']}\) hold NaN in {name}, layer {layer} of the"):
        VGG16Features(layer, "IMAGENET1K_V1")
    VGG16Features(layer - 1, "IMAGENET1K_V1")


def _cut_in_half(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path):
    path.write_bytes(b"")


def _text(path: Path):
    path.write_text("<html>404 Not Found</html>")


def _another_networks(path: Path):
    torch.save(nn.Sequential(nn.Linear(2, 2)).state_dict(), path)


def _another_networks_with_deeper_names(path: Path):
    torch.save({"layer1.0.conv1.weight": torch.zeros(2)}, path)


def _other_shapes(path: Path):
    state = torch.load(path, weights_only=True)
    torch.save({key: value[..., :1] for key, value in state.items()}, path)


def _no_state(path: Path):
    torch.save([1, 2, 3], path)


@pytest.mark.parametrize(
    "damage", [_cut_in_half, _empty, _text, _another_networks, _another_networks_with_deeper_names, _other_shapes, _no_state]
)
def test_a_damaged_file_of_weights_is_named(published, torch_home, damage):
    published()
    damage(torch_home / "hub" / "checkpoints" / FILES["IMAGENET1K_V1"])
    with pytest.raises(ValueError, match=rf"VGG-16 IMAGENET1K_V1 \({FILES['IMAGENET1K_V1']} in the torch cache\) do not load"):
        VGG16Features(2, "IMAGENET1K_V1")


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_code_in_a_file_of_weights_is_not_executed(torch_home, tmp_path, save):
    path = torch_home / "hub" / "checkpoints" / FILES["IMAGENET1K_V1"]
    if save == "torch":
        torch.save({"features.0.weight": Evil(tmp_path / "executed")}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(tmp_path / "executed"), protocol=2))
    with pytest.raises(ValueError, match="do not load"):
        VGG16Features(2, "IMAGENET1K_V1")
    assert not (tmp_path / "executed").exists()


def test_equal_networks_have_equal_fingerprints():
    assert fingerprint(VGG16Features(5, "random")) == fingerprint(VGG16Features(5, "random"))
    assert len(fingerprint(VGG16Features(5, "random"))) == 12


def test_fingerprints_tell_networks_apart(published):
    for weights in FILES:
        published(weights)  # the same numbers, with another normalisation of the images
    options = [
        {},
        {"layer": 4},
        {"layer": 6},
        {"seed": 1},
        {"pool": True},
        {"resize": True},
        {"weights": "IMAGENET1K_V1"},
        {"weights": "IMAGENET1K_FEATURES"},
    ]
    found = [fingerprint(VGG16Features(**{"layer": 5, "weights": "random"} | option)) for option in options]
    assert len(set(found)) == len(options)
