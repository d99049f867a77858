"""Files -> answers: archives, submissions, the code of each answer."""
