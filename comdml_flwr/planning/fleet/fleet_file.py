"""The fleet file: the devices and links that the planner and the virtual clock use.

A fleet file is TOML; 1 Mbps = 125,000 bytes/s:

    [model]                     # for planning: either a model by name ...
    name = "resnet-56"
    input = [3, 32, 32]
    batch_size = 100
    num_classes = 10            # default 10
    # [[cuts]]                  # ... or a table of cuts 1..M in the authors' order, one entry each
    # slow_share = 0.73         # of the whole model's time per batch
    # fast_share = 0.13
    # bytes_per_batch = 1.25e6
    # slow_bytes = 1e8          # memory to train each side, and the uncut model (equal in all cuts):
    # fast_bytes = 5e7          # needed if an agent has memory_bytes
    # whole_bytes = 1.2e8
    # [[time_shares]]           # measured, one entry for each cut of the model: in place of its sides' shares
    # slow_share = 0.75         # of the FLOPs, which are counted and not quite those of the time
    # fast_share = 0.13
    [links]                     # for each pair of agents; without this table there are only the [[link]]s
    bandwidth_mbps = 50         # 0 = not connected
    latency_ms = 0              # default 0
    relay_bandwidth_mbps = 10   # default 10: averaging between agents without a link goes through a relay
    [server]                    # of the methods that have one; default: as fast as the fastest agent, and
    flops_per_s = 4.0e9         # linked as the relay is
    bandwidth_mbps = 100        # of its link with each agent, > 0
    latency_ms = 0              # default: that of [links]
    [[agents]]
    id = 0
    flops_per_s = 4.0e9         # with [[cuts]]: batches_per_s
    num_samples = 5000          # with [[cuts]]: num_batches
    memory_bytes = 2e9          # default: no bound on what it may hold while it trains
    bandwidth_mbps = 30         # its own network, in place of [links]: a pair has the slower of its two,
                                # and all links of the agent share it
    [[link]]                    # one pair, both directions
    between = [0, 1]
    bandwidth_mbps = 100
    latency_ms = 0              # default: that of [links]

What changes during a run stands in the tables [scenario] and [[availability]], see scenario.py.
A run trains its own model and data and takes only speeds, time shares and links from here: [model], [[cuts]],
num_samples and num_batches may then be absent.
"""

import tomllib
from dataclasses import replace
from difflib import get_close_matches
from math import inf
from pathlib import Path

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet import Fleet, FleetAgent, FleetModel, FleetServer, TimeShares
from comdml_flwr.planning.fleet.presets import FLEET_NAMES, preset_text
from comdml_flwr.planning.fleet.scenario import (
    read_availability,
    read_scenario,
    text_with_rows,
)
from comdml_flwr.planning.fleet.toml_tables import Table, is_whole
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, Cut, CutTable, Link

_RELAY_MBPS = 10.0
_TABLES = ("model", "cuts", "time_shares", "links", "server", "agents", "link", "scenario", "availability")


def load_fleet(path: str | Path) -> Fleet:
    """Read a fleet file, or a preset by its name.

    Raises
    ------
    InputError
        If there is no such file or preset, or as `parse_fleet` does.
    """
    return parse_fleet(_read_text(path), str(path))


def self_contained_text(path: str | Path) -> str:
    """Return the text of a fleet file, with the rows of its CSV file in it: for nodes that see no files.

    Raises
    ------
    InputError
        As `load_fleet` does, or if the CSV file is named in a way that is hard to replace.
    """
    text, fleet = _read_text(path), load_fleet(path)
    if fleet.availability is None or fleet.availability.file is None:
        return text
    text = text_with_rows(text, fleet.availability)
    if parse_fleet(text, str(path)).availability != replace(fleet.availability, file=None):
        rule = "must stand as two lines, [availability] and file = ..., to travel to other machines"
        raise InputError(f"{path}: availability.file", fleet.availability.file, rule)
    return text


def is_preset(path: str | Path) -> bool:
    """Tell whether this names a preset, not a file; `./ten` would be a file."""
    return str(path) in FLEET_NAMES


def _read_text(path: str | Path) -> str:
    if is_preset(path):
        return preset_text(str(path))
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        near = get_close_matches(str(path), FLEET_NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"presets are {', '.join(FLEET_NAMES)}"
        raise InputError("fleet", str(path), f"{error.strerror}; {hint}") from error
    except OSError as error:
        raise InputError("fleet", str(path), error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise InputError("fleet", str(path), "is not UTF-8 text") from error


def parse_fleet(text: str, source: str) -> Fleet:
    """Read the text of a fleet file.

    Parameters
    ----------
    text : str
        TOML, see the module docstring.
    source : str
        The name of the file, for messages.

    Returns
    -------
    Fleet

    Raises
    ------
    InputError
        In one line: the file, the place in it, the value and the rule that it breaks.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more than 4300 digits
        raise InputError("fleet", source, f"is not TOML: {error}") from error
    top = Table(f"{source}:", values, _TABLES)
    if "model" in values and "cuts" in values:
        raise top.error("cuts", "give either [model] or [[cuts]]")
    if "time_shares" in values and "cuts" in values:
        raise top.error("time_shares", "must be left out with [[cuts]], which has shares of its own")
    agents = _read_agents(top)
    ids = {agent.id for agent in agents}
    default_link, relay = _read_links(top)
    return Fleet(
        source=source,
        model=_read_model(top) if "model" in values else None,
        cuts=_read_cuts(top) if "cuts" in values else None,
        agents=agents,
        default_link=default_link,
        overrides=_read_overrides(top, ids, default_link),
        relay=relay,
        scenario=read_scenario(top),
        availability=read_availability(top, ids, Path(source).parent),
        server=_read_server(top, relay) if "server" in top else None,
        time_shares=_read_time_shares(top) if "time_shares" in values else (),
    )


def _read_model(top: Table) -> FleetModel:
    table = top.table("model", ("name", "input", "batch_size", "num_classes"))
    name, shape = table.values.get("name"), table.values.get("input")
    if not isinstance(name, str) or not name:
        raise table.error("name", "must be the name of a model")
    if not isinstance(shape, list) or not shape or not all(is_whole(size, 1) for size in shape):
        raise table.error("input", "must be the shape of a sample: whole numbers >= 1")
    return FleetModel(
        name=name,
        input=tuple(shape),
        batch_size=table.whole("batch_size", lowest=1),
        num_classes=table.whole("num_classes", lowest=2, default=10),
    )


def _read_cuts(top: Table) -> CutTable:
    keys = ("slow_share", "fast_share", "bytes_per_batch")
    memory = ("slow_bytes", "fast_bytes", "whole_bytes")
    cuts = []
    for table in top.tables("cuts", (*keys, *memory)):
        values = {key: table.number(key, positive=False) for key in keys}
        values |= {key: table.number(key, positive=True) for key in memory if key in table}
        cuts.append(Cut(is_possible=True, **values))
        if cuts[-1].whole_bytes != cuts[0].whole_bytes:
            raise table.error("whole_bytes", "must be equal in all cuts: it is that of the uncut model")
    return CutTable(cuts)


def _read_time_shares(top: Table) -> tuple[TimeShares, ...]:
    keys = ("slow_share", "fast_share")
    tables = top.tables("time_shares", keys)
    return tuple(TimeShares(**{key: table.number(key, positive=True) for key in keys}) for table in tables)


def _read_agents(top: Table) -> tuple[FleetAgent, ...]:
    keys = (
        "id",
        "flops_per_s",
        "batches_per_s",
        "num_samples",
        "num_batches",
        "memory_bytes",
        "bandwidth_mbps",
    )
    agents: dict[int, FleetAgent] = {}
    for table in top.tables("agents", keys):
        agent = table.whole("id", lowest=0)
        if agent in agents:
            raise table.error("id", "must be different for each agent")
        if "flops_per_s" not in table and "batches_per_s" not in table:
            raise table.error("flops_per_s", "give flops_per_s, or batches_per_s with [[cuts]]")
        agents[agent] = FleetAgent(
            id=agent,
            flops_per_s=table.number("flops_per_s", positive=True) if "flops_per_s" in table else None,
            batches_per_s=table.number("batches_per_s", positive=True) if "batches_per_s" in table else None,
            num_samples=table.whole("num_samples", lowest=1) if "num_samples" in table else None,
            num_batches=table.number("num_batches", positive=True) if "num_batches" in table else None,
            memory_bytes=table.number("memory_bytes", positive=True) if "memory_bytes" in table else inf,
            bytes_per_s=_bytes_per_s(table) if "bandwidth_mbps" in table else None,
        )
    return tuple(agents.values())


def _read_links(top: Table) -> tuple[Link, Link]:
    if "links" not in top:
        return Link(bytes_per_s=0.0), Link(bytes_per_s=_RELAY_MBPS * BYTES_PER_S_PER_MBPS)
    table = top.table("links", ("bandwidth_mbps", "latency_ms", "relay_bandwidth_mbps"))
    latency_s = _latency_s(table)
    relay_mbps = table.number("relay_bandwidth_mbps", positive=True, default=_RELAY_MBPS)
    default = Link(bytes_per_s=_bytes_per_s(table), latency_s=latency_s)
    return default, Link(bytes_per_s=relay_mbps * BYTES_PER_S_PER_MBPS, latency_s=latency_s)


def _read_server(top: Table, relay: Link) -> FleetServer:
    table = top.table("server", ("flops_per_s", "batches_per_s", "bandwidth_mbps", "latency_ms"))
    if "flops_per_s" in table and "batches_per_s" in table:
        raise table.error("batches_per_s", "give flops_per_s or batches_per_s")
    link = relay
    if "bandwidth_mbps" in table:
        mbps = table.number("bandwidth_mbps", positive=True)
        link = Link(bytes_per_s=mbps * BYTES_PER_S_PER_MBPS, latency_s=relay.latency_s)
    if "latency_ms" in table:
        link = replace(link, latency_s=_latency_s(table))
    return FleetServer(
        flops_per_s=table.number("flops_per_s", positive=True) if "flops_per_s" in table else None,
        batches_per_s=table.number("batches_per_s", positive=True) if "batches_per_s" in table else None,
        link=link,
    )


def _bytes_per_s(table: Table) -> float:
    return table.number("bandwidth_mbps", positive=False) * BYTES_PER_S_PER_MBPS


def _latency_s(table: Table) -> float:
    return table.number("latency_ms", positive=False, default=0.0) / 1000


def _read_overrides(top: Table, ids: set[int], default: Link) -> dict[tuple[int, int], Link]:
    links: dict[tuple[int, int], Link] = {}
    tables = top.tables("link", ("between", "bandwidth_mbps", "latency_ms")) if "link" in top else []
    for table in tables:
        pair = _read_pair(table, ids)
        if pair in links:
            raise table.error("between", "must appear once (a link holds for both directions)")
        links[pair] = Link(
            bytes_per_s=_bytes_per_s(table),
            latency_s=_latency_s(table) if "latency_ms" in table else default.latency_s,
        )
    return links


def _read_pair(table: Table, ids: set[int]) -> tuple[int, int]:
    between = table.values.get("between")
    if not isinstance(between, list) or len(between) != 2 or not all(is_whole(end, 0) for end in between):
        raise table.error("between", "must be two agent ids")
    if between[0] == between[1]:
        raise table.error("between", "must be two different agents")
    for agent in between:
        if agent not in ids:
            raise table.error("between", f"must be ids of [[agents]]; there is no agent {agent}")
    return min(between), max(between)
