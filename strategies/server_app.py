"""The ServerApp of this app."""

from comdml_flwr import peer_server_app
from strategies.fedavg import run_fedavg
from strategies.splitfed import run_splitfed

app = peer_server_app(with_server={"fedavg": run_fedavg, "splitfed": run_splitfed})
