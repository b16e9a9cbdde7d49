"""Batches of notebooks over papermill; `python -m centroidlib.batch` is the command line."""

from centroidlib.batch.execution import execute, is_done
from centroidlib.batch.planning import BatchError, Stage, declared_parameters, plan

__all__ = ["BatchError", "Stage", "declared_parameters", "execute", "is_done", "plan"]
