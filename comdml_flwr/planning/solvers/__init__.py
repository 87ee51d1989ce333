"""The pairing problem and its solvers."""
