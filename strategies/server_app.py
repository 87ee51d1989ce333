"""The ServerApp of this app."""

from comdml_flwr.flower.peer_strategy import peer_server_app

app = peer_server_app()
