"""Batches of notebooks over papermill and Dask; `python -m centroidlib.batch` is the command line."""

from centroidlib.batch.notebooks import BatchError, declared_parameters
from centroidlib.batch.planning import Stage, plan

__all__ = ["BatchError", "Stage", "declared_parameters", "plan"]
