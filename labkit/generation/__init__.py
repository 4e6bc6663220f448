"""Text from causal models: many prompts at once, drawn or likeliest tokens, and conversations."""
