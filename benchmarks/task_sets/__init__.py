"""The data sets of the benchmark of tasks. Adding one: a file here, a line in SETS."""

from __future__ import annotations

from task_sets.base import TaskSet
from task_sets.classification import MRPC, SST2
from task_sets.entities import WNUT17
from task_sets.entity_types import TYPES
from task_sets.orders import ORDERS
from task_sets.questions import SQUAD
from task_sets.sentences import SENTENCES
from task_sets.similarity import STS
from task_sets.summaries import SUMMARIES
from task_sets.titles import TITLES

SETS: tuple[TaskSet, ...] = (SST2, MRPC, TYPES, STS, TITLES, WNUT17, SQUAD, SUMMARIES, ORDERS, SENTENCES)
