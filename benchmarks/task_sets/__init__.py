"""The data sets of the benchmark of tasks. Adding one: a file here, a line in SETS."""

from __future__ import annotations

from task_sets.base import TaskSet
from task_sets.classification import MRPC, SST2
from task_sets.entities import WNUT17
from task_sets.orders import ORDERS
from task_sets.similarity import STS

SETS: tuple[TaskSet, ...] = (SST2, MRPC, STS, WNUT17, ORDERS)
