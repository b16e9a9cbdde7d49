"""What a notebook begins with, by its parameters: images, Φ and its centroid, networks that measure, what training is given."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from centroidlib import backbones
from centroidlib.centroid import CentroidStats
from centroidlib.checkpoints import load_generator
from centroidlib.config import TrainingConfig
from centroidlib.constraints import Constraint, constraint_of
from centroidlib.evaluation.formats import protocol_of
from centroidlib.evaluation.networks import Dinov2Features, load_lpips
from centroidlib.evaluation.observing import Lpips, cached_features
from centroidlib.evaluation.spaces import Space, metric_spaces
from centroidlib.factors import FactorClassifier, load_factor_classifier, save_factor_classifier, train_factor_classifier
from centroidlib.features import FeatureExtractor, device_of
from centroidlib.images import load_images
from centroidlib.machine import device_here
from centroidlib.models import AnyGenerator
from centroidlib.runs import Run
from centroidlib.vgg import VGG16Features

FACTORS_FILE = "factors.safetensors"
# Φ by name, beside vgg16 and torchvision's networks.
EXTRACTORS: dict[str, Callable[[], FeatureExtractor]] = {
    "dinov2": Dinov2Features,
}
_LOADING = ("crop", "resize", "upscale", "on_corrupt")  # parameters that `load_images` takes as they are


def real_images(run: Run) -> Tensor:
    """The training images of the run's `source`, uint8 (N, 3, 64, 64)."""
    return _loaded(run, "source", "count", seed=0)


def held_out_images(run: Run) -> Tensor | None:
    """Real images that are never trained on, of the run's `held_out`; None where it names none."""
    return _loaded(run, "held_out", "held_out_count", seed=1) if run.parameters["held_out"] else None


def _loaded(run: Run, source: str, count: str, seed: int) -> Tensor:
    asked = {name: run.parameters[name] for name in _LOADING} | {"count": run.parameters[count] or None}
    return load_images(run.path(run.parameters[source]), **asked, seed=seed, root=run.root / "data")


def may_be_drawn(run: Run) -> bool:
    """Whether real images may stand in the notebook: drawn faces always, photographs where `show_real_images` says so."""
    return bool(run.parameters["source"] == "synthetic" or run.parameters["show_real_images"])


def extractor_of(extractor: str, layer: int = 16, weights: str = "random", pool: bool = False) -> FeatureExtractor:
    """Φ by its name, on the CPU.

    Args:
        extractor: `vgg16`, the paper's; one of `EXTRACTORS`; or `network:layer`, and `network:layer:side` to resize images
            first, of torchvision's classification networks: `resnet50:layer3`, `vit_b_16:encoder.layers.encoder_layer_5:224`.
        layer: of `vgg16`.
        weights: of `vgg16` or torchvision's.
        pool: average over positions.

    Raises:
        ValueError: no such extractor, layer or weights, or what the networks raise.
        FileNotFoundError: the weights are neither cached nor to be downloaded.
    """
    if extractor == "vgg16":
        return VGG16Features(layer, weights, pool)
    if extractor in EXTRACTORS:
        return EXTRACTORS[extractor]()
    network, colon, place = extractor.partition(":")
    place, _, side = place.partition(":")
    if not colon or (side and not side.isdigit()):
        raise ValueError(
            f"extractor is vgg16, {', '.join(EXTRACTORS)}, or network:layer of torchvision's (resnet50:layer3; with a side to "
            f"resize images to, vit_b_16:encoder.layers.encoder_layer_5:224), not {extractor!r}."
        )
    return backbones.TorchvisionFeatures(network, place, weights, pool, int(side or 0))


def feature_extractor(run: Run) -> FeatureExtractor:
    """The run's Φ, on the device in use."""
    asked = {name: run.parameters[name] for name in ("extractor", "layer", "weights", "pool")}
    return extractor_of(**asked).to(device_here())


def centroid_stats(run: Run, phi: FeatureExtractor, images: Tensor) -> CentroidStats:
    """What 01 saved as c and d_ref; refused where they were made with another Φ or of other images."""
    return CentroidStats.load(run.input(f"{run.parameters['centroid']}/centroid.safetensors"), phi=phi, images=images)


def trained_generator(run: Run) -> AnyGenerator:
    """The generator that 02 trained, or the moving average that the arm `generator_of` kept of its own."""
    arm, seed = run.parameters["generator_of"], run.parameters["seed"]
    name = f"{arm}_seed{seed}/generator_ema.safetensors" if arm else "generator.safetensors"
    return load_generator(run.input(name)).to(device_here())


def kept_generators(run: Run) -> list[Path]:
    """The generators that 02 kept on the way."""
    names = [path.name for path in sorted(run.folder.glob("generators/step_*.safetensors"))]
    return [run.input(f"{run.folder.name}/generators/{name}") for name in names]


def trained_files(run: Run) -> list[str]:
    """What training left in the run's folder, for its record."""
    averages = ["generator_ema.safetensors"] if run.parameters["ema"] else []
    kept = [f"generators/{path.name}" for path in sorted(run.folder.glob("generators/step_*.safetensors"))]
    return ["history.csv", "generator.safetensors", *averages, *kept]


def metric_networks(run: Run, phi: FeatureExtractor) -> tuple[list[Space], Lpips]:
    """The feature spaces to measure in, and LPIPS by the name of its network."""
    asked = run.parameters
    spaces = metric_spaces(
        phi, asked["fid_dims"], clean=asked["clean"], dinov2=asked["dinov2"], precision=asked["metric_precision"]
    )
    return spaces, {asked["lpips"]: load_lpips(asked["lpips"], device_of(phi))} if asked["lpips"] else {}


def new_factor_classifier(run: Run) -> FactorClassifier | None:
    """A classifier of the drawn faces' factors, trained here and saved for 03; None for other images, or without steps."""
    (run.folder / FACTORS_FILE).unlink(missing_ok=True)
    if run.parameters["source"] != "synthetic" or not run.parameters["factor_steps"]:
        return None
    # Of other faces than those that are trained on (seed 0) and held out (seed 1).
    classifier = train_factor_classifier(seed=2, steps=run.parameters["factor_steps"], device=device_here())
    save_factor_classifier(classifier, run.output(FACTORS_FILE))
    return classifier


def factor_classifier(run: Run) -> FactorClassifier | None:
    """The classifier that 01 saved; None where it saved none."""
    name = f"{run.parameters['centroid']}/{FACTORS_FILE}"
    return load_factor_classifier(run.input(name), device_here()) if (run.batch / name).is_file() else None


def protocol(
    run: Run,
    images: Tensor,
    others: Tensor | None,
    spaces: list[Space],
    phi: FeatureExtractor,
    lpips: Lpips,
    classifier: FactorClassifier | None,
) -> dict[str, Any]:
    """What decides the meaning of the run's measurements."""
    asked = {name: run.parameters[name] for name in ("samples", "pairs", "crop", "resize")}
    mode = run.parameters.get("batch_norm", "eval")
    return protocol_of(images, others, spaces, phi, lpips=lpips, batch_norm=mode, classifier=classifier, **asked)


def training_config(run: Run) -> TrainingConfig:
    """What decides the training run: every parameter that bears the name of a field of `TrainingConfig`."""
    names = [field.name for field in fields(TrainingConfig)]
    return TrainingConfig(**{name: run.parameters[name] for name in names if name in run.parameters})


def training_constraint(run: Run, phi: FeatureExtractor, images: Tensor) -> Constraint | None:
    """What takes the place of Eq. 3, made of the training images' features, averaged over positions; None for Eq. 3.

    Raises:
        ValueError: no such constraint, or `whiten` with Eq. 3 itself.
    """
    name, whiten = run.parameters["constraint"], run.parameters["whiten"]
    if name == "eq3":
        if whiten != "none":
            raise ValueError(
                f"Eq. 3 is on Φ's features as they are, not whitened ({whiten}): set whiten = 'none', or constraint = 'hinge', "
                "its relative on pooled features."
            )
        return None
    real = cached_features(images, [Space("real", phi.pooled(), True)], "real images")["real"]
    given = run.parameters["centroid_samples"] or run.parameters["batch_size"]
    return constraint_of(name, real.to(device_of(phi)), whiten, given, None if phi.pool else phi.average)
