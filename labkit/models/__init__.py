"""Pretrained models: load them, tell their architectures apart, and turn text into tokens and back."""
