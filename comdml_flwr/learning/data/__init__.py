"""The data sets that are built in, and the contract of a user's own."""
