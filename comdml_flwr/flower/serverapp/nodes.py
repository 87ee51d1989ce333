"""The beginning and the end of a run at its nodes: wait until all are there, greet them, let them go."""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from statistics import median_low

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from comdml_flwr.core.code_digest import code_digest
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.code_version import MEND, app_digest
from comdml_flwr.flower.mail import shared_folder
from comdml_flwr.flower.records import blob, content_of, flower_reason, integer, text, texts
from comdml_flwr.flower.same_start import check_same_start, unpack_start
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.messenger import Messenger
from comdml_flwr.flower.serverapp.simulation_actors import replace_dead_actors
from comdml_flwr.learning.data.contract import check_tests
from comdml_flwr.learning.metrics import KnownTests
from comdml_flwr.runs.terminal import Terminal

WAIT_POLL_S = 0.1
SAY_AFTER_S = 60.0  # of waiting: who is missing
GOODBYE_S = 30.0
"""How long a run that has failed waits for its nodes' last replies: some may be what it failed of."""


@contextmanager
def greet(
    grid: Grid,
    fleet_text: str,
    terminal: Terminal,
    timeout: float = 3600,
    config_text: str = "",
    *,
    is_resumed: bool = False,
) -> Iterator[Federation]:
    """Make the run's folder, gather all nodes, and remove the folder at the end.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    fleet_text : str
        The fleet file's text, for nodes that do not see the ServerApp's files.
    terminal : Terminal
        Where progress is printed.
    timeout : float
        How long to wait for all nodes to be there, in seconds.
    config_text : str
        The run's configuration as JSON; without it, the one that Flower hands to the nodes.
    is_resumed : bool
        Whether the run goes on from a checkpoint.

    Raises
    ------
    RunError
        As `gather_nodes` does; or the nodes do not begin with the same data and model.
    """
    messenger, token = Messenger(grid, terminal), secrets.token_hex(16)
    with shared_folder(token, fleet_text, config_text) as (folder, tokens_of_dead):
        common = {"folder": str(folder), "token": token, "code": code_digest(), "app": app_digest()}
        about = {**common, "fleet": fleet_text, "config": config_text}
        greeting = ConfigRecord({**about, "is-resumed": is_resumed, "dead": tokens_of_dead})
        try:
            told, hello_s = gather_nodes(messenger, greeting, timeout)
            replace_dead_actors()
            terminal.warn(line for _, facts in told.values() for line in texts(facts, "warnings"))
            starts = {f"agent {agent}": unpack_start(facts) for agent, (_, facts) in sorted(told.items())}
            check_same_start(starts)
            cards, tests = _cards(told), tests_of(told)
            yield Federation(
                messenger=messenger,
                nodes={agent: node for agent, (node, _) in told.items()},
                folder=folder,
                common=ConfigRecord(
                    {
                        **common,
                        "files": not cards,
                        "cards": cards,
                        **samples_of(told),
                        "shared-tests": tests.num_shared,
                    }
                ),
                addresses={
                    agent: text(facts, "address") for agent, (_, facts) in told.items() if facts["address"]
                },
                hello_s=hello_s,
                start=next(iter(starts.values())),
                names=told_alike(told, "model", "dataset"),
                metrics=told_alike(told, "metrics")["metrics"],
                model_bytes=integer(next(iter(told.values()))[1], "model-bytes"),
                tests=tests,
            )
        except Exception:
            _let_go(grid, ConfigRecord({**common}))
            raise
        except (KeyboardInterrupt, SystemExit):
            _let_go(grid, ConfigRecord({**common}), patience_s=0)
            raise


def _let_go(grid: Grid, common: ConfigRecord, patience_s: float = GOODBYE_S) -> None:
    """Let the nodes of a run that failed keep nothing of it."""
    contents = dict.fromkeys(grid.get_node_ids(), content_of(common))
    Messenger(grid).exchange("query.goodbye", contents, group="goodbye", patience_s=patience_s)


def gather_nodes(
    messenger: Messenger, greeting: ConfigRecord, timeout: float
) -> tuple[dict[int, tuple[int, ConfigRecord]], float]:
    """Wait until all nodes are there; return each node's id and what it tells of itself, by agent id.

    And how long they took to tell it, in seconds.

    Parameters
    ----------
    messenger : Messenger
        Sends messages to the nodes.
    greeting : ConfigRecord
        Facts for `query.hello`.
    timeout : float
        How long to wait for the nodes, in seconds.

    Raises
    ------
    RunError
        Nodes are missing, two say that they are the same agent, or one cannot run the app.
    """
    first = _wait_for_nodes(messenger, 1, timeout)[0]
    count = _ask(messenger, "query.count", [first], ConfigRecord(), timeout)[first]
    num_nodes = integer(count, "num-partitions")
    node_ids = _wait_for_nodes(messenger, num_nodes, timeout)
    messenger.display.exchange_begins(0, "nodes load data and model", num_nodes)
    told: dict[int, tuple[int, ConfigRecord]] = {}
    began = time.monotonic()
    for node, facts in _ask(messenger, "query.hello", node_ids, greeting, timeout).items():
        agent = integer(facts, "agent")
        if agent in told:
            raise RunError(f"two nodes say that they are agent {agent}: each needs a partition-id of its own")
        told[agent] = node, facts
    return told, time.monotonic() - began


def samples_of(told: Mapping[int, tuple[int, ConfigRecord]]) -> dict[str, list[int]]:
    """Return how many training and own test samples each agent has, in ascending id.

    -1 where an agent evaluates a share of the test samples that all have alike.

    Raises
    ------
    InputError
        No agent has test data: nothing could be said of the model. Or those that all have alike differ.
    """
    in_order = [facts for _, (_, facts) in sorted(told.items())]
    check_tests((integer(facts, "num-test"), bool(facts["shares-test"])) for facts in in_order)
    return {
        "num-samples": [integer(facts, "num-samples") for facts in in_order],
        "own-tests": [-1 if facts["shares-test"] else integer(facts, "num-test") for facts in in_order],
    }


def tests_of(told: Mapping[int, tuple[int, ConfigRecord]]) -> KnownTests:
    """Return what is known of the test samples of all agents; the rest of what they tell is checked by it."""
    facts_of = {agent: facts for agent, (_, facts) in sorted(told.items())}
    shared = [integer(facts, "num-test") for facts in facts_of.values() if facts["shares-test"]]
    return KnownTests(
        ids=tuple(facts_of),
        own={agent: integer(one, "num-test") for agent, one in facts_of.items() if not one["shares-test"]},
        num_shared=max(shared, default=0),
        most_counts=median_low(integer(facts, "most-counts") for facts in facts_of.values()),
    )


def told_alike(told: Mapping[int, tuple[int, ConfigRecord]], *names: str) -> dict[str, str]:
    """Return facts that all nodes must tell alike, by name.

    Raises
    ------
    RunError
        Two nodes tell different things.
    """
    first, *others = sorted(told)
    for name, other in product(names, others):
        one, its_own = (text(told[agent][1], name) for agent in (first, other))
        if one != its_own:
            raise RunError(f"{name} of agent {first} is {one}, and of agent {other} {its_own}: {MEND}")
    return {name: text(told[first][1], name) for name in names}


def _cards(told: Mapping[int, tuple[int, ConfigRecord]]) -> list[bytes]:
    """Return the cards with the nodes' keys; none where all see the run's folder, as mail is open there."""
    if all(facts["sees-folder"] for _, facts in told.values()):
        return []
    return [blob(facts, "card") for _, (_, facts) in sorted(told.items())]


def _ask(
    messenger: Messenger, message_type: str, nodes: list[int], facts: ConfigRecord, patience_s: float
) -> dict[int, ConfigRecord]:
    contents = {node: content_of(facts) for node in nodes}
    replies = messenger.exchange(message_type, contents, group="hello", patience_s=patience_s)
    for reply in replies.values():
        if reply.message.has_error():
            raise RunError(f"a node cannot run this app: {flower_reason(reply.message)}; {MEND}")
    told = {node: reply.facts for node, reply in replies.items()}
    if len(told) < len(nodes):
        known = ", ".join(sorted(str(facts["agent"]) for facts in told.values() if "agent" in facts))
        who = f" (agents {known} did)" if known else ""
        raise RunError(
            f"{len(nodes) - len(told)} of {len(nodes)} nodes did not reply in {patience_s:g} s{who}"
        )
    return told


def _wait_for_nodes(messenger: Messenger, count: int, timeout: float) -> list[int]:
    grid, display = messenger.grid, messenger.display
    display.exchange_begins(0, "waiting for nodes", count)
    began, is_told = time.monotonic(), False
    while len(nodes := sorted(grid.get_node_ids())) < count:
        waited_s = time.monotonic() - began
        if waited_s > timeout:
            who = _who_is_missing(messenger, nodes, count)
            raise RunError(f"only {len(nodes)} of {count} nodes were there after {timeout:g} s{who}")
        if waited_s > SAY_AFTER_S and not is_told:
            is_told = True
            who = _who_is_missing(messenger, nodes, count)
            display.say(f"  {len(nodes)} of {count} nodes are there{who}; waiting for the others")
        display.heartbeat()
        time.sleep(WAIT_POLL_S)
    return nodes


def _who_is_missing(messenger: Messenger, nodes: list[int], count: int) -> str:
    """Return in words which nodes are not there, by what those that are there say; empty if none says it."""
    if not nodes:
        return ""
    told = _ask(messenger, "query.count", nodes, ConfigRecord(), GOODBYE_S)
    missing = sorted({*range(count)} - {integer(facts, "partition-id") for facts in told.values()})
    return f", none with partition-id {', '.join(map(str, missing))}"
