"""Checks of the exercises: ``check.<name>(your answer)``, and ``check.hint("<name>")``.

A check never raises: it praises a right answer, explains a typical mistake, or says that nothing was tried yet.
Each notebook has a file of checks, named after it; this module gathers them.
"""

from labkit.classroom.exercises import hint
from labkit.classroom.notebook_00 import examples_seen, other_form, own_data, triage_prompt
from labkit.classroom.notebook_01 import adamw_bytes, completion_targets, fixed_loss, updates_or_examples
from labkit.classroom.notebook_02 import lora_parameters, merged_weight, rank_experiment
from labkit.classroom.notebook_03 import absmax_int8, bits_per_parameter, block_sizes
from labkit.classroom.notebook_04 import fixed_adapter, price_of_4_bits, qlora_bytes, relative_difference
from labkit.classroom.notebook_05 import extrapolate, levers, peak_of
from labkit.classroom.notebook_06 import adapter_parameters, merged_ia3, rate_search
from labkit.classroom.notebook_07 import bootstrap_verdict, pareto_front, replication
from labkit.classroom.notebook_08 import fault_cost, padding_labels, reply_mask
from labkit.classroom.notebook_09 import cleaning_gain, jaccard, own_report
from labkit.classroom.notebook_10 import frozen_reference, ipo_loss, preference_experiment
from labkit.classroom.notebook_11 import grpo_advantages, honest_reward, reward_experiment
from labkit.classroom.notebook_12 import merge_search, mixed_batch, ties

__all__ = [
    "absmax_int8",
    "adamw_bytes",
    "adapter_parameters",
    "bits_per_parameter",
    "block_sizes",
    "bootstrap_verdict",
    "cleaning_gain",
    "completion_targets",
    "examples_seen",
    "extrapolate",
    "fault_cost",
    "fixed_adapter",
    "fixed_loss",
    "frozen_reference",
    "grpo_advantages",
    "hint",
    "honest_reward",
    "ipo_loss",
    "jaccard",
    "levers",
    "lora_parameters",
    "merge_search",
    "merged_ia3",
    "merged_weight",
    "mixed_batch",
    "other_form",
    "own_data",
    "own_report",
    "padding_labels",
    "pareto_front",
    "peak_of",
    "preference_experiment",
    "price_of_4_bits",
    "qlora_bytes",
    "rank_experiment",
    "rate_search",
    "relative_difference",
    "replication",
    "reply_mask",
    "reward_experiment",
    "ties",
    "triage_prompt",
    "updates_or_examples",
]
