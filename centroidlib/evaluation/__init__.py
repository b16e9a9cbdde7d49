"""Evaluation: the networks that measure, one pass over images, every metric with its floor and interval, its files."""

from centroidlib.evaluation.calibration import calibrate, calibration_networks, calibration_pictures, calibration_sets
from centroidlib.evaluation.counting import factor_entries, factor_floors
from centroidlib.evaluation.curves import learning_curve
from centroidlib.evaluation.formats import load_statistics, protocol_of, read_floors, save_statistics, write_floors, write_metrics
from centroidlib.evaluation.measuring import measure, measure_real, nearest_training
from centroidlib.evaluation.networks import Dinov2Features, InceptionFeatures, load_lpips
from centroidlib.evaluation.observing import Observed, features_of, generate_images, generated, observe, observe_images
from centroidlib.evaluation.spaces import Space, metric_spaces

__all__ = [
    "Dinov2Features",
    "InceptionFeatures",
    "Observed",
    "Space",
    "calibrate",
    "calibration_networks",
    "calibration_pictures",
    "calibration_sets",
    "factor_entries",
    "factor_floors",
    "features_of",
    "generate_images",
    "generated",
    "learning_curve",
    "load_lpips",
    "load_statistics",
    "measure",
    "measure_real",
    "metric_spaces",
    "nearest_training",
    "observe",
    "observe_images",
    "protocol_of",
    "read_floors",
    "save_statistics",
    "write_floors",
    "write_metrics",
]
