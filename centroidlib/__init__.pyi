from .adversarial import adversarial_loss, discriminator_loss
from .algorithm import train_step
from .centroid import CentroidStats, compute_centroid
from .checkpoints import load_generator
from .config import TrainingConfig
from .evaluation import (
    calibrate,
    calibration_pictures,
    features_of,
    generate_images,
    generated,
    learning_curve,
    load_lpips,
    load_statistics,
    measure,
    measure_real,
    metric_spaces,
    observe,
    observe_images,
    protocol_of,
    read_floors,
    save_statistics,
    write_floors,
    write_metrics,
)
from .faces import FACTORS, draw_faces
from .features import VGG16Features, fingerprint, to_float, to_uint8
from .images import load_images
from .losses import centroid_distances, centroid_loss, generator_loss
from .metrics import (
    density_coverage,
    effective_rank,
    fit_gaussian,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    nearest_distances,
    precision_recall,
)
from .models import Discriminator, Generator, initialise
from .runs import Run
from .training import train

__all__ = [
    "FACTORS",
    "CentroidStats",
    "Discriminator",
    "Generator",
    "Run",
    "TrainingConfig",
    "VGG16Features",
    "adversarial_loss",
    "calibrate",
    "calibration_pictures",
    "centroid_distances",
    "centroid_loss",
    "compute_centroid",
    "density_coverage",
    "discriminator_loss",
    "draw_faces",
    "effective_rank",
    "features_of",
    "fingerprint",
    "fit_gaussian",
    "frechet_distance",
    "gaussian_distance",
    "generate_images",
    "generated",
    "generator_loss",
    "initialise",
    "kernel_distance",
    "learning_curve",
    "load_generator",
    "load_images",
    "load_lpips",
    "load_statistics",
    "measure",
    "measure_real",
    "metric_spaces",
    "nearest_distances",
    "observe",
    "observe_images",
    "precision_recall",
    "protocol_of",
    "read_floors",
    "save_statistics",
    "to_float",
    "to_uint8",
    "train",
    "train_step",
    "write_floors",
    "write_metrics",
]
