"""Centroid-constrained GANs: the reference implementation of Seo and Park's center constraint loss."""

from centroidlib.centroid import CentroidStats, compute_centroid
from centroidlib.checkpoints import load_generator
from centroidlib.evaluation import (
    disjoint_pairs,
    features_of,
    generate_images,
    load_lpips,
    lpips_of_pairs,
    measure_generated,
    measure_real,
    metric_spaces,
    protocol_of,
    write_metrics,
)
from centroidlib.faces import FACTORS, draw_faces
from centroidlib.features import VGG16Features, fingerprint, to_float, to_uint8
from centroidlib.images import load_images
from centroidlib.losses import (
    adversarial_loss,
    centroid_distances,
    centroid_loss,
    discriminator_loss,
    generator_loss,
)
from centroidlib.metrics import effective_rank, frechet_distance, precision_recall
from centroidlib.models import Discriminator, Generator
from centroidlib.runs import Run
from centroidlib.training import TrainingConfig, train, train_step

__all__ = [
    "FACTORS",
    "CentroidStats",
    "Discriminator",
    "Generator",
    "Run",
    "TrainingConfig",
    "VGG16Features",
    "adversarial_loss",
    "centroid_distances",
    "centroid_loss",
    "compute_centroid",
    "discriminator_loss",
    "disjoint_pairs",
    "draw_faces",
    "effective_rank",
    "features_of",
    "fingerprint",
    "frechet_distance",
    "generate_images",
    "generator_loss",
    "load_generator",
    "load_images",
    "load_lpips",
    "lpips_of_pairs",
    "measure_generated",
    "measure_real",
    "metric_spaces",
    "precision_recall",
    "protocol_of",
    "to_float",
    "to_uint8",
    "train",
    "train_step",
    "write_metrics",
]
