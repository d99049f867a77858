"""What students write: the table of exercises, how answers are read, their public checks."""
