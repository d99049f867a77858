"""Weights -> pictures: the iterative decoding over whole test sets."""
