"""What only SplitFed reads."""

from comdml_flwr.core.settings.base import Settings, setting


class SplitfedSettings(Settings, title="SplitFed"):
    """What only SplitFed reads."""

    cut: int = setting(6, ge=1, description="where `splitfed` cuts the model; 6 of a ResNet is DTFL's")
    splitfed_version: int = setting(
        1, ge=1, le=2, description="1: a server side for each agent, then averaged; 2: one for all, in turn"
    )
