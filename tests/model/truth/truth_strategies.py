"""Hypothesis strategies for programs of processes: lists of steps, which shrink to fewer steps of smaller numbers."""

from __future__ import annotations

from hypothesis import strategies as st

from taskscope.labs.truth.build import STEP_MAX, STEPS, Step, build
from taskscope.labs.truth.program import Program

NUMBER = st.integers(0, STEP_MAX - 1)
STEP: st.SearchStrategy[Step] = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, NUMBER)
STEP_LISTS: st.SearchStrategy[list[Step]] = st.lists(STEP, max_size=STEPS)
PROGRAMS: st.SearchStrategy[Program] = STEP_LISTS.map(build)
