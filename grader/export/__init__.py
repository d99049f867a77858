"""What leaves the grader: the Gradescope autograder and the release for students."""
