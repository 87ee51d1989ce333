"""What only ComDML reads."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class ComdmlSettings(Settings, title="ComDML"):
    """What only ComDML reads."""

    averaging: Literal["allreduce", "mixing"] = setting(
        "allreduce",
        description="of `comdml`: `allreduce` among all who take part, or `mixing` with linked neighbours",
    )
    num_chunks: int = setting(
        1, ge=1, description="messages in which a slow agent's activations travel under `flwr run`"
    )
