"""TensorBoard: event files in the run's folder."""

from collections.abc import Mapping
from pathlib import Path

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import Json
from comdml_flwr.runs.records import RoundRecord, as_json
from comdml_flwr.runs.tracking.names import numbers


class TensorBoardTracker:
    """Writes a run's numbers as scalars, its configuration and its summary as text.

    Parameters
    ----------
    config : RunConfig
        The run.
    folder : Path
        The run's folder; events go to `tensorboard` in it.
    num_over : int
        Rounds that are over; what an earlier process wrote of later ones is not shown any more.
    """

    def __init__(self, config: RunConfig, folder: Path, num_over: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        goes_on_at = num_over + 1 if num_over else None
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=goes_on_at)
        self._add_text("config", config.with_defaults_named())

    def round_ends(self, record: RoundRecord) -> None:
        """Write a round's numbers (as float32, which is what event files hold)."""
        for name, value in numbers(as_json(record)).items():
            self._writer.add_scalar(name, value, record.round)
        self._writer.flush()

    def finish(self, summary: Mapping[str, Json] | None) -> None:
        """Write the summary, if there is one, and close the file."""
        if summary is not None:
            self._add_text("summary", summary)
        self._writer.close()

    def _add_text(self, tag: str, values: Mapping[str, Json]) -> None:
        rows = "\n".join(f"| {name} | {to_json(value)} |" for name, value in values.items())
        self._writer.add_text(tag, f"| name | value |\n| --- | --- |\n{rows}")
