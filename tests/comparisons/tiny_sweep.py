"""A sweep called ``tiny``, whose runs take no time, and its stored rows."""

import json
from dataclasses import fields

from labkit.comparisons.bench import bench
from labkit.comparisons.point import Point

SETTING = {"model": "tiny", "task": "colours", "steps": 2, "batch_size": 4, "train": 24, "test": 12}
LORA = {"name": "lora", "rank": 2, "target_modules": ("q_proj",)}
QUERY = {"name": "lora", "rank": 2, "target_modules": ("query",)}
PARTS = [field.name for field in fields(Point)]


def setting(seed, method=LORA, rate=0.01):
    return {**SETTING, "method": method, "learning_rate": rate, "seed": seed}


def rows(folder):
    return json.loads((folder / "tiny.json").read_text(encoding="utf-8"))["rows"]


def parts(row):
    return {part: ({"held_out": 0, "data": {}} | row)[part] for part in PARTS}


def run_all():
    return list(bench("tiny"))
