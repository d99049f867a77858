"""Answers -> observations: sandboxes, kernels, graded notebooks."""
