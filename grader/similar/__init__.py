"""Similar answers in a class: the comparison and its pages."""
