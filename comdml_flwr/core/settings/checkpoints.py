"""From where a run can go on."""

from comdml_flwr.core.settings.base import Settings, setting


class CheckpointSettings(Settings, title="Checkpoints"):
    """From where a run can go on."""

    checkpoint_every: int = setting(
        0,
        ge=0,
        description="rounds between two checkpoints, from which the run can go on; 0: none",
        on_resume="may change",
    )
    resume: str = setting(
        "",
        description="folder of a run that goes on from its last checkpoint; empty: begin a new one",
        on_resume="not compared",
    )
