"""Labelled samples: the paper's own subsets, which are shipped, the full sets, and one's own."""

from tda_utils.data.load import load_task
from tda_utils.data.objective import Objective
from tda_utils.data.task import Task

__all__ = ["Objective", "Task", "load_task"]
