"""The ClientApp: one agent, with the rows of its node: patients of one clinic, say."""

import pandas as pd
import torch
from sklearn.datasets import load_diabetes
from torch import nn

from comdml_flwr import Place, Regression, peer_client_app


def network(input_shape: tuple[int, ...], num_outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Build the model as a chain of stages: between any two of them it can be cut."""
    model = nn.Sequential(
        nn.Sequential(nn.Linear(*input_shape, 64), nn.ReLU()),
        nn.Sequential(nn.Linear(64, 64), nn.ReLU()),
        nn.Linear(64, num_outputs),
    )
    for weights in model.parameters():
        if weights.dim() > 1:
            nn.init.kaiming_uniform_(weights, generator=generator)
        else:
            nn.init.zeros_(weights)
    return model


def load_data(place: Place) -> tuple[object, object]:
    """Take this node's rows: three quarters to train on, the rest to test on."""
    rows = read_table(place)
    x = rows.drop(columns="progression").to_numpy("float32")
    y = rows["progression"].to_numpy("float32")
    num_train = len(rows) * 3 // 4
    return (x[:num_train], y[:num_train]), (x[num_train:], y[num_train:])


def read_table(place: Place) -> pd.DataFrame:
    """Return the rows that this node alone has, in numbers of about 1.

    Here they are a part of scikit-learn's 442 diabetes patients; on a real node, read its own file.
    """
    table = load_diabetes(as_frame=True).frame.rename(columns={"target": "progression"})
    table = table.sample(frac=1, random_state=1)[place.partition_id :: place.num_partitions]
    return table.assign(progression=(table["progression"] - 150) / 77)


app = peer_client_app(model=network, task=Regression(), data=load_data)
