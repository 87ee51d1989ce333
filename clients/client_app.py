"""The ClientApp that `flwr run .` loads."""

from clients.fedavg import add_fedavg
from comdml_flwr import peer_client_app

app = add_fedavg(peer_client_app())
