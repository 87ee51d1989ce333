"""The models that are built in, and the contract of a user's own."""
