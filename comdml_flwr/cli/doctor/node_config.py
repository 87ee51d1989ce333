"""A node's configuration, as it is given to flower-supernode."""

import re
import tomllib

from comdml_flwr.core.errors import InputError

_PAIR = re.compile(r"""(\S+?)=('[^']*'|"[^"]*"|\S+)""")  # as Flower finds them


def parse_node_config(text: str) -> dict[str, bool | int | float | str]:
    """Read a node's configuration as flower-supernode does.

    Raises
    ------
    InputError
        It is none, or lacks the numbers that every node must have.
    """
    try:
        values = tomllib.loads("\n".join(f"{key} = {value}" for key, value in _PAIR.findall(text)))
    except tomllib.TOMLDecodeError as error:
        rule = f"must be KEY=VALUE ..., with texts in quotes ({error})"
        raise InputError("--node-config", text, rule) from None
    number, num = values.get("partition-id"), values.get("num-partitions")
    if not isinstance(number, int) or not isinstance(num, int) or not 0 <= number < num:
        raise InputError("--node-config", text, "must have partition-id=N num-partitions=M with N below M")
    return values
