"""Checks of the exercises: ``check.<name>(your answer)``, and ``check.hint("<name>")``.

A check never raises: it praises a right answer, explains a typical mistake, or says that nothing was tried yet.
Each notebook has a file of checks, named after it; this module gathers them.
"""

from labkit.classroom.exercises import hint
from labkit.classroom.notebook_00 import examples_seen, triage_prompt
from labkit.classroom.notebook_01 import adamw_bytes, completion_targets
from labkit.classroom.notebook_02 import lora_parameters, merged_weight
from labkit.classroom.notebook_03 import absmax_int8, bits_per_parameter
from labkit.classroom.notebook_04 import qlora_bytes, relative_difference
from labkit.classroom.notebook_05 import extrapolate, peak_of
from labkit.classroom.notebook_06 import adapter_parameters, merged_ia3
from labkit.classroom.notebook_07 import is_bootstrap_tie, pareto_front

__all__ = [
    "absmax_int8",
    "adamw_bytes",
    "adapter_parameters",
    "bits_per_parameter",
    "completion_targets",
    "examples_seen",
    "extrapolate",
    "hint",
    "is_bootstrap_tie",
    "lora_parameters",
    "merged_ia3",
    "merged_weight",
    "pareto_front",
    "peak_of",
    "qlora_bytes",
    "relative_difference",
    "triage_prompt",
]
