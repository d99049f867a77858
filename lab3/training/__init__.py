"""Tokens -> weights: training runs that resume exactly, in one process or many."""
