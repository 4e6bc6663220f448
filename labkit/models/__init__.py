"""Pretrained models: what they are, which ones, and how they read and write."""
