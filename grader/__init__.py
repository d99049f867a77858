"""The autograder of lab3: it imports `lab3`, never the other way round."""
