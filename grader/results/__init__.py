"""Results -> files and pages: results.json, grades.csv, feedback, final marks."""
