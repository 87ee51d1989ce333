"""The ServerApp that `flwr run .` loads."""
