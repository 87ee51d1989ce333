"""The ClientApp that `flwr run .` loads."""
