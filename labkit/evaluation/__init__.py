"""Evaluate models: accuracy, perplexity, forgetting, latency, and whether a difference is real."""

from labkit.evaluation.bootstrap import bootstrap_interval
from labkit.evaluation.difference import LogitDifference, logit_difference
from labkit.evaluation.heads import head_for, zero_shot_head
from labkit.evaluation.labels import evaluate, label_probabilities
from labkit.evaluation.latency import latency_ratio
from labkit.evaluation.pairs import PairScores, score_pairs
from labkit.evaluation.proportions import wilson
from labkit.evaluation.replies import score_replies
from labkit.evaluation.reply_scores import ReplyScores
from labkit.evaluation.results import Evaluation, Forgetting
from labkit.evaluation.significance import Comparison, compare
from labkit.evaluation.text import forgetting, knowledge, perplexity, text_loss
from labkit.evaluation.vectors import drift, embed

__all__ = [
    "Comparison",
    "Evaluation",
    "Forgetting",
    "LogitDifference",
    "PairScores",
    "ReplyScores",
    "bootstrap_interval",
    "compare",
    "drift",
    "embed",
    "evaluate",
    "forgetting",
    "head_for",
    "knowledge",
    "label_probabilities",
    "latency_ratio",
    "logit_difference",
    "perplexity",
    "score_pairs",
    "score_replies",
    "text_loss",
    "wilson",
    "zero_shot_head",
]
