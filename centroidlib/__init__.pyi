from .adversarial import adversarial_loss, discriminator_loss, gradient_penalty
from .algorithm import train_step
from .backbones import TorchvisionFeatures
from .centroid import CentroidStats, compute_centroid
from .checkpoints import load_generator
from .config import TrainingConfig
from .constraints import CONSTRAINTS, Constraint, constraint_of, equation_3
from .evaluation import (
    calibrate,
    calibration_networks,
    calibration_pictures,
    calibration_sets,
    factor_entries,
    factor_floors,
    features_of,
    generate_images,
    generated,
    learning_curve,
    load_lpips,
    load_statistics,
    measure,
    measure_real,
    metric_spaces,
    nearest_training,
    observe,
    observe_images,
    protocol_of,
    read_floors,
    save_statistics,
    write_floors,
    write_metrics,
)
from .faces import FACTORS, draw_faces
from .factors import factor_accuracy, factor_diversity, recognise_factors, train_factor_classifier
from .features import fingerprint, to_float, to_uint8
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
from .vgg import VGG16Features

__all__ = [
    "CONSTRAINTS",
    "FACTORS",
    "CentroidStats",
    "Constraint",
    "Discriminator",
    "Generator",
    "Run",
    "TorchvisionFeatures",
    "TrainingConfig",
    "VGG16Features",
    "adversarial_loss",
    "calibrate",
    "calibration_networks",
    "calibration_pictures",
    "calibration_sets",
    "centroid_distances",
    "centroid_loss",
    "compute_centroid",
    "constraint_of",
    "density_coverage",
    "discriminator_loss",
    "draw_faces",
    "effective_rank",
    "equation_3",
    "factor_accuracy",
    "factor_diversity",
    "factor_entries",
    "factor_floors",
    "features_of",
    "fingerprint",
    "fit_gaussian",
    "frechet_distance",
    "gaussian_distance",
    "generate_images",
    "generated",
    "generator_loss",
    "gradient_penalty",
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
    "nearest_training",
    "observe",
    "observe_images",
    "precision_recall",
    "protocol_of",
    "read_floors",
    "recognise_factors",
    "save_statistics",
    "to_float",
    "to_uint8",
    "train",
    "train_factor_classifier",
    "train_step",
    "write_floors",
    "write_metrics",
]
