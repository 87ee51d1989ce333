"""Which files pictures can be written to."""

from pathlib import Path
from typing import TYPE_CHECKING

from comdml_flwr.core.errors import InputError

if TYPE_CHECKING:
    pass


ENDINGS = (".svg", ".png")


def check_picture(file: Path) -> None:
    """Raise InputError if a picture cannot be drawn into such a file, before any work is done."""
    if file.suffix.lower() not in ENDINGS:
        raise InputError("--picture", str(file), f"must end in {' or '.join(ENDINGS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("--picture", str(file), "needs matplotlib: pip install matplotlib") from None
    if not file.parent.is_dir():
        raise InputError("--picture", str(file), f"there is no folder {file.parent}")
