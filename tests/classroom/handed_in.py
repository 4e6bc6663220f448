"""What learners hand in, made without training: evaluations, runs, and answers read from the solutions' notebook."""

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import labkit as lk
from labkit.classroom.exercises import EXERCISES
from labkit.evaluation.results import score

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)


def cells(name):
    """The code cells of a notebook, with their source in one text."""
    found = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found if cell["cell_type"] == "code"]


def called(source):
    """The exercises whose checks a cell calls, in order."""
    return [name for name in re.findall(r"^check\.(\w+)\(", source, re.MULTILINE) if name != "hint"]


def solution_cells():
    """The cell of each exercise's solution."""
    return {name: cell for cell in cells("instructor/solutions") for name in called(cell["source"])}


def solutions(notebook):
    """The answers to a notebook's exercises: those of the solutions' notebook, but for experiments, which train."""
    first = ast.parse(cells("instructor/solutions")[0]["source"])
    imports = ast.Module([node for node in first.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    answers = {}
    for name, cell in solution_cells().items():
        if EXERCISES[name].notebook == notebook and EXERCISES[name].kind != "experiment":
            names = {}
            exec(compile(imports, "solutions", "exec"), names)
            record = {name: lambda answer, name=name: answers.update({name: answer})}
            exec(cell["source"], names | {"check": SimpleNamespace(**record)})
    return answers


def evaluation(rate=0.8, total=200, seed=0):
    """An evaluation whose hits are drawn; the same seed gives hits that go together."""
    hits = np.random.default_rng(seed).random(total) < rate
    return score(hits.tolist(), ["a"] * total, ["a"], [f"{seed}{hit}" for hit in hits])


def trials(rate=0.8, method=None, seeds=SEEDS, total=200, rl=None, history=(), **settings):
    """The pairs of an experiment, one for each seed."""
    settings = {"steps": 30, "batch_size": 16, "learning_rate": 1e-3} | settings
    configs = [lk.TrainingConfig(seed=seed, **settings) for seed in seeds]
    runs = [SimpleNamespace(config=config, method=method, rl=rl, history=history) for config in configs]
    return [(run, evaluation(rate, total, seed)) for run, seed in zip(runs, seeds, strict=True)]


def changed(answer, **parts):
    """An answer with some of its parts replaced, or left out where they are None."""
    return {key: value for key, value in (answer | parts).items() if value is not None}
