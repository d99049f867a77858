"""The hidden probes of the eleven exercises, one topic a file.

In: nothing. Out: `PROBES`, exercise id -> its probes.
"""

from grader.probes import (
    attention,
    distance,
    evaluation,
    inpainting,
    iterative_decode,
    masking,
    optimizer,
    schedules,
    training,
)
from grader.probes.probe import PROBES as ALL
from lab3.exercises.table import EXERCISES

TOPICS = (attention, masking, optimizer, training, evaluation, schedules, inpainting, iterative_decode, distance)
PROBES = {exercise: [one for one in ALL if one.exercise == exercise] for exercise in EXERCISES}
