"""The ServerApp: it starts the agents and hands on their mail; it has no model and no text."""

from comdml_flwr import peer_server_app

app = peer_server_app()
