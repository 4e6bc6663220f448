"""Quantization from scratch: 8-bit grids, 4-bit codebooks, blocks, double quantization, a 4-bit layer."""
