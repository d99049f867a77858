"""What a notebook holds: `lab3.start` and the `Lab` that it returns."""
