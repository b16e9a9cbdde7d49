"""Tests of what notebooks begin with, by their parameters."""

import pytest
import torch

import centroidlib as cl
from centroidlib import inputs
from centroidlib.runs import Run

PARAMETERS = {
    **{"batch": "test", "arm": "a", "seed": 3, "centroid": "01_centroid", "source": "synthetic", "count": 12, "crop": 1.0},
    **{"resize": "bilinear", "upscale": False, "on_corrupt": "stop", "held_out": "", "held_out_count": 5, "extractor": "vgg16"},
    **{"layer": 2, "weights": "random", "pool": False, "show_real_images": False, "generator_of": "", "fid_dims": 0, "lpips": ""},
    **{"clean": False, "dinov2": False, "metric_precision": "float32", "samples": 8, "pairs": 4, "factor_steps": 1},
    **{"constraint": "eq3", "whiten": "none", "centroid_samples": 0, "batch_size": 4, "lambda_": 2.0, "steps": 1, "width": 2},
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A run with some parameters changed."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)

    def make(**changed):
        return Run(f"0{len(list(tmp_path.rglob('.lock')))}_stage", PARAMETERS | {"arm": f"a{len(changed)}"} | changed)

    return make


def test_images_are_those_of_the_source_and_held_out_ones_are_others(made):
    run = made(held_out="synthetic")
    images, others = inputs.real_images(run), inputs.held_out_images(run)
    assert torch.equal(images, cl.load_images("synthetic", count=12))
    assert torch.equal(others, cl.load_images("synthetic", count=5, seed=1))
    assert not torch.equal(images[:5], others)
    assert inputs.held_out_images(made()) is None


def test_photographs_may_be_drawn_only_where_it_is_said(made):
    assert inputs.may_be_drawn(made())
    assert not inputs.may_be_drawn(made(source="photos"))
    assert inputs.may_be_drawn(made(source="photos", show_real_images=True))


@pytest.mark.parametrize(
    ("extractor", "name", "channels"),
    [("vgg16", "vgg16_random_relu1_1", 64), ("resnet18:layer1", "resnet18_random_layer1", 64)],
)
def test_phi_is_the_extractor_of_that_name(extractor, name, channels, faces):
    phi = inputs.extractor_of(extractor, layer=2)
    assert phi.name == name
    flat = phi(cl.to_float(faces[:2]))
    assert flat.shape[1] > channels
    assert phi.average(flat).shape == (2, channels)
    torch.testing.assert_close(phi.pooled()(cl.to_float(faces[:2])), phi.average(flat), rtol=1e-4, atol=1e-5)
    assert not phi.pool


def test_a_network_that_takes_one_size_only_gets_it():
    with pytest.raises(
        ValueError, match=r"vit_b_16 does not take images of 64×64 pixels .*: set resize to what it was trained on"
    ):
        inputs.extractor_of("vit_b_16:encoder.layers.encoder_layer_0")
    phi = inputs.extractor_of("vit_b_16:encoder.layers.encoder_layer_0:224")
    assert phi.channels_last
    assert phi.channels == 768


@pytest.mark.parametrize("wrong", ["vgg19", "resnet18:layer1:big"])
def test_another_extractor_is_refused_in_a_sentence(wrong):
    with pytest.raises(ValueError, match=rf"extractor is vgg16, dinov2, or network:layer of torchvision's .*, not '{wrong}'"):
        inputs.extractor_of(wrong)


def test_every_parameter_that_training_knows_reaches_it(made):
    config = inputs.training_config(made(lambda_=7.0, width=5))
    assert (config.seed, config.batch_size, config.lambda_, config.width) == (3, 4, 7.0, 5)
    assert config.learning_rate == cl.TrainingConfig().learning_rate


def test_the_constraint_is_of_the_training_images_pooled_features(made, phi):
    run = made()
    images = inputs.real_images(run)
    assert inputs.training_constraint(run, phi, images) is None
    found = inputs.training_constraint(made(constraint="energy", whiten="diagonal"), phi, images)
    real = cl.features_of(images, phi, "real")
    wanted = cl.constraint_of("energy", real, "diagonal", 4)
    fake = cl.features_of(images.flip(2)[:4], phi, "fake")
    torch.testing.assert_close(found(fake), wanted(fake))
    flat = phi.pooled(False)
    other = inputs.training_constraint(made(constraint="energy", whiten="diagonal", seed=4), flat, images)
    torch.testing.assert_close(other(cl.features_of(images.flip(2)[:4], flat, "fake")), wanted(fake), rtol=1e-4, atol=1e-5)
    assert "pooled" in other.name
    with pytest.raises(ValueError, match=r"Eq. 3 is on Φ's features as they are, not whitened \(full\): set whiten = 'none'"):
        inputs.training_constraint(made(whiten="full"), phi, images)


def test_factors_are_counted_on_drawn_faces_only(made):
    run = made()
    assert inputs.factor_classifier(run) is None
    run.parameters["centroid"] = run.folder.name
    classifier = inputs.new_factor_classifier(run)
    assert cl.fingerprint(inputs.factor_classifier(run)) == cl.fingerprint(classifier)
    run.parameters["factor_steps"] = 0
    assert inputs.new_factor_classifier(run) is None
    assert inputs.factor_classifier(run) is None  # what an earlier run left is gone
    assert inputs.new_factor_classifier(made(source="photos")) is None


def test_the_protocol_says_with_what_was_counted(made, phi):
    run = made()
    images = inputs.real_images(run)
    spaces, lpips = inputs.metric_networks(run, phi)
    assert lpips == {}
    classifier = cl.train_factor_classifier(count=64, steps=1)
    plain = inputs.protocol(run, images, None, spaces, phi, lpips, None)
    counted = inputs.protocol(run, images, None, spaces, phi, lpips, classifier)
    assert counted == plain | {"factors": cl.fingerprint(classifier)}
    assert plain["n_fake"] == 8
