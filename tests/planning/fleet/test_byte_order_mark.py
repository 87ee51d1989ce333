"""A text file that begins with a byte-order mark, as editors on Windows write it, reads like any other."""

import codecs

import pytest

from comdml_flwr.cli.doctor.peers import parse_peers
from comdml_flwr.comparison.tables import read_tables
from comdml_flwr.planning.fleet.fleet_file import load_fleet, self_contained_text
from experiments.command import read_settings
from tests.small import fleet_text

COMPARISON = """
name = "small"
seeds = [1]
targets = [0.5]
reference = "A"
[[methods]]
label = "A"
[[cases]]
label = "one"
fleet = "ten"
num-agents = 2
"""
TRACE = "round,agent,present\n2,1,false\n"
READERS = {
    "fleet": (fleet_text(2), lambda path: load_fleet(path).agents),
    "fleet that travels": (fleet_text(2), self_contained_text),
    "comparison": (COMPARISON, read_tables),
    "peers": ("0=127.0.0.1:9500\n1=127.0.0.1:9501\n", lambda path: parse_peers([str(path)])),
    "experiment": ("num_agents = 3\n", lambda path: read_settings(path, ("num_agents",), smoke=False).values),
}


def write(path, text, *, marked):
    path.write_bytes(codecs.BOM_UTF8 * marked + text.encode())
    return path


@pytest.mark.parametrize("kind", READERS)
def test_a_file_with_a_byte_order_mark_reads_as_without(kind, tmp_path):
    text, read = READERS[kind]
    plain, marked = (read(write(tmp_path / "file", text, marked=marked)) for marked in (False, True))
    assert plain == marked


def test_a_trace_with_a_byte_order_mark_reads_as_without(tmp_path):
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(f'{fleet_text(2)}\n[availability]\nfile = "trace.csv"\n')
    read = []
    for marked in (False, True):
        write(tmp_path / "trace.csv", TRACE, marked=marked)
        read.append((load_fleet(fleet).availability, self_contained_text(fleet)))
    assert read[0] == read[1]
