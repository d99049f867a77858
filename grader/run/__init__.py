"""Grading a submission, a class, a class on many machines."""
