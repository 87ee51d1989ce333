"""Under `flwr run` the reason why an app failed comes last, in one line.

Flower logs the traceback of what an app raises, and then "Exit Code: ..." with words of its own, in which a
reason is hard to find. A filter of its logger takes the traceback out, if the error is ours or comes out of
the user's code, and puts the line behind those words. COMDML_TRACEBACK=1 keeps the traceback.

Flower imports an app's modules before it calls anything of ours. So that a module that cannot be imported is
told in the same way, the filter is there as soon as our client or server app has been imported.
"""

import logging

from comdml_flwr.core.user_code import describe_error, find_told, wants_traceback

_FLOWERS_LOGGER = "flwr"
_LAST_WORDS = "Exit Code: "


class _LastLine(logging.Filter):
    """Remembers why an app failed, until Flower has said its last words."""

    def __init__(self) -> None:
        super().__init__()
        self._line = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record of Flower's where it tells of an error; every record passes."""
        if record.exc_info and (told := find_told(record.exc_info[1])):
            self._line = describe_error(told)
            if not wants_traceback():
                record.exc_info = None
        message = record.getMessage()
        if self._line and message.startswith(_LAST_WORDS):
            record.msg, record.args = f"{message}\n\ncomdml: {self._line}", ()
            self._line = ""
        return True


def tell_errors_last() -> None:
    """Let Flower's log end with the reason why an app failed."""
    logger = logging.getLogger(_FLOWERS_LOGGER)
    if not any(isinstance(there, _LastLine) for there in logger.filters):
        logger.addFilter(_LastLine())
