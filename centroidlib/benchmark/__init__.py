"""Our time beside a reference's: what is timed against what, in turns, as ratios."""

from centroidlib.benchmark.folders import as_files, sweep_project, temporary_folder, trivial_project
from centroidlib.benchmark.literal import examples_dcgan, literal_phi, literal_start, literal_step
from centroidlib.benchmark.networks import (
    both_inceptions,
    both_lpips,
    choose_weights,
    distance_of_files,
    draw_gaussians,
    loading,
    seeded_inception,
)
from centroidlib.benchmark.rows import LESS, answer, ratios, row, table
from centroidlib.benchmark.steps import balls_for, batch_of, losses_table, pace, step_rows
from centroidlib.benchmark.timing import compare, interleaved, relative_difference, seconds_of

__all__ = [
    "LESS",
    "answer",
    "as_files",
    "balls_for",
    "batch_of",
    "both_inceptions",
    "both_lpips",
    "choose_weights",
    "compare",
    "distance_of_files",
    "draw_gaussians",
    "examples_dcgan",
    "interleaved",
    "literal_phi",
    "literal_start",
    "literal_step",
    "loading",
    "losses_table",
    "pace",
    "ratios",
    "relative_difference",
    "row",
    "seconds_of",
    "seeded_inception",
    "step_rows",
    "sweep_project",
    "table",
    "temporary_folder",
    "trivial_project",
]
