"""Show a plan: as text, or as a dictionary for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from labkit.planning.sizes import readable
from labkit.printing import printable

if TYPE_CHECKING:
    from labkit.planning.plan import Plan


def heading(plan: Plan) -> str:
    """Return the model and the size of a step as text."""
    batch = f"batch {plan.training.batch_size} × {plan.length} tokens, {str(plan.precision).removeprefix('torch.')}"
    saving = ", gradient checkpointing" if plan.training.gradient_checkpointing else ""
    rewarded = ""
    if plan.rl:
        replies = plan.rl.group * plan.rl.prompts
        rewarded = f", {plan.rl.algorithm} of {replies} replies of {plan.rl.max_new_tokens}"
    copy = ", with a copy as reference" if plan.reference_copy else ""
    return f"{plan.name}, {batch}{saving}{rewarded}{copy}"


def as_text(plan: Plan) -> str:
    """Return a line for each part of the memory, and whether the total fits on the GPU."""
    parts = {key: value for key, value in plan.report.megabytes().items() if value >= 0.5}
    lines = [f"{plan.method.name} on {heading(plan)}"]
    lines += [f"  {kind:<12}{megabytes / 1000:>9.2f} GB" for kind, megabytes in parts.items()]
    lines += [
        f"  {'tensors':<12}{plan.peak / 1e9:>9.2f} GB at the peak of a step",
        f"  {'reserved':<12}{plan.reserved / 1e9:>9.2f} GB by torch's allocator, about",
        f"  {'context':<12}{plan.context / 1e9:>9.2f} GB by CUDA itself (assumed)",
    ]
    if plan.gpu:
        verdict = "fits" if plan.fits else "does not fit"
        lines.append(f"{verdict} into {readable(plan.gpu)}: {plan.total / 1e9:.2f} GB needed")
    return printable("\n".join(lines))


def as_dict(plan: Plan) -> dict[str, Any]:
    """Return the plan as a dictionary for JSON, with sizes in bytes."""
    parts = {key: value for key, value in vars(plan.report).items() if isinstance(value, int) and key != "resident"}
    return {
        "model": plan.name,
        "method": plan.method.to_dict(),
        "precision": str(plan.precision).removeprefix("torch."),
        "batch_size": plan.training.batch_size,
        "length": plan.length,
        "learned": plan.learned,
        "gradient_checkpointing": plan.training.gradient_checkpointing,
        "rl": asdict(plan.rl) if plan.rl else None,
        "reference_copy": plan.reference_copy,
        "simulated": plan.simulated,
        "tensors": parts,
        "peak": plan.peak,
        "allocated": plan.allocated,
        "reserved": plan.reserved,
        "context": plan.context,
        "total": plan.total,
        "gpu": plan.gpu,
        "fits": plan.fits if plan.gpu else None,
    }
