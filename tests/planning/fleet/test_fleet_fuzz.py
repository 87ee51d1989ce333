"""Whatever stands in a fleet file: a result, or exactly one line and exit status 2; never anything else."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from comdml_flwr.cli import main as cli

ROOT = Path(__file__).resolve().parents[3]

WITH_CUTS = """
[[cuts]]
slow_share = 0.7
fast_share = 0.3
bytes_per_batch = 1e6
[[cuts]]
slow_share = 0.2
fast_share = 0.8
bytes_per_batch = 2e6
[links]
bandwidth_mbps = 50
latency_ms = 2
relay_bandwidth_mbps = 5
[[agents]]
id = 0
batches_per_s = 1
num_batches = 10
[[agents]]
id = 1
batches_per_s = 4.5
num_batches = 2.5
bandwidth_mbps = 30
[[agents]]
id = 7
batches_per_s = 0.5
num_batches = 3
[[link]]
between = [0, 7]
bandwidth_mbps = 100
latency_ms = 1
[scenario]
share = 0.5
every = 1
links = true
speed_noise = 0.1
[[availability]]
round = 2
agent = 7
present = false
[[availability]]
round = 3
agent = 7
present = true
"""
WITH_MODEL = """
[model]
name = "resnet-56"
input = [1, 8, 8]
batch_size = 32
num_classes = 10
[links]
bandwidth_mbps = 50
[[agents]]
id = 0
flops_per_s = 1e9
num_samples = 100
[[agents]]
id = 1
flops_per_s = 4e9
num_samples = 100
"""

VALUES = st.sampled_from(
    [
        *("nan", "-nan", "inf", "-inf", "-1", "0", "-0.0", "0.0", "0.5", "1", "2", "7", "1e18", "1.1e18"),
        *("1e308", "5e-324", "1e999", "9" * 400, "9" * 5000, "0x" + "f" * 5000, "-0x1", "1_000", "0b11"),
        *("true", "false", "''", "'x'", '"\\u0000.csv"', '"a\\nb"', '"\\u2028"', "'trace.csv'", "'/etc'"),
        *("[]", "[1]", "[0, 1]", "[[0], [1]]", "[0, 0]", "[nan, 1]", "{}", "{a = 1}", "[{}]", "[{id = 1}]"),
        *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "", "?", "[" * 3000, "'" * 3),
        "[0x" + "f" * 5000 + ", 1]",
    ]
)
LINES = st.one_of(
    st.sampled_from(
        [
            *("[links]", "[[links]]", "[model]", "[[cuts]]", "[cuts]", "[[agents]]", "[agents]", "[[link]]"),
            *("[link]", "[scenario]", "[[scenario]]", "[availability]", "[[availability]]", "[zebra]"),
            *("[agents.links]", "[[agents.link]]", "]", "a.b.c = 1", "'' = 1", '"\\u2028" = 1', "id = 1"),
            *("file = 'trace.csv'", "file = 'none.csv'", "round = 1", "# \u2028", "\x00", "\x85", "\x0c"),
        ]
    ),
    st.text(max_size=20),
)


@st.composite
def broken(draw, text):
    """Break a good file in one to four places."""
    lines = text.strip().splitlines()
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["value", "value", "value", "delete", "twice", "insert", "cut", "move"])):
            case "value":
                lines[place] = f"{lines[place].partition('=')[0]}= {draw(VALUES)}"
            case "delete":
                del lines[place : place + draw(st.integers(1, 6))]
            case "twice":
                lines[place:place] = lines[place : place + draw(st.integers(1, 4))]
            case "insert":
                lines.insert(place, draw(LINES))
            case "cut":
                lines[place] = lines[place][: draw(st.integers(0, 12))]
            case "move":
                lines.insert(0, lines.pop(place))
        lines = lines or [""]
    return "\n".join(lines)


EXTREMES = ("5e-324", "1e-18", "3e-18", "1e-9", "0.0", "0", "1", "3.5", "1e12", "1e18", "999999999999999999")


@st.composite
def extreme(draw, text):
    """Replace some numbers by others that the rules of a single number allow, mostly."""
    lines = text.strip().splitlines()
    kept = ("id", "agent", "input", "links", "present", "between", "name")
    places = [n for n, line in enumerate(lines) if "=" in line and not line.startswith(kept)]
    for place in draw(st.lists(st.sampled_from(places), max_size=4)):
        lines[place] = f"{lines[place].partition('=')[0]}= {draw(st.sampled_from(EXTREMES))}"
    return "\n".join(lines)


TRACES = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [
                *(
                    "round,agent,present",
                    "1,0,true",
                    "2,0,false",
                    "1,1,0",
                    "1,7,0",
                    "1,7,0",
                    "0,0,1",
                    "1,9,1",
                ),
                *("1,0", "nan,0,1", "1,0,2", '"1', "1,0,1,1", "", "9" * 50 + ",0,1", "\u0661,0,1", "\x00"),
            ]
        ),
        max_size=6,
    ).map(lambda rows: "\n".join(["round,agent,present", *rows]).encode()),
)


def outcome_of(words):
    """Run the command line in this process; return exit status, standard output and error."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["comdml", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as end:
                return end.code, out.getvalue(), err.getvalue()
    finally:
        sys.argv = argv
    raise AssertionError("main did not exit")


def check(status, out, err):
    if status == 0:
        assert out
        assert err == ""
    else:
        assert status == 2
        assert out == ""
        assert err.startswith("comdml: ")
        assert len(err.splitlines()) == 1, err
        assert err.endswith("\n")
        assert len(err) < 2000, "a line that nobody reads"


FUZZ = settings(
    max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def plan(folder, content):
    path = folder / "fleet.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return outcome_of(["plan", path, "--json"])


@FUZZ
@given(text=broken(WITH_CUTS))
def test_a_broken_file_is_planned_or_one_line(tmp_path, text):
    check(*plan(tmp_path, text))


@FUZZ
@given(text=extreme(WITH_CUTS))
def test_a_file_of_extreme_numbers_is_planned_or_one_line(tmp_path, text):
    check(*plan(tmp_path, text))


@settings(FUZZ, max_examples=40)
@given(text=st.one_of(broken(WITH_MODEL), extreme(WITH_MODEL)))
def test_a_broken_model_is_planned_or_one_line(tmp_path, text):
    check(*plan(tmp_path, text))


@settings(FUZZ, max_examples=60)
@given(text=st.one_of(broken(WITH_CUTS), extreme(WITH_CUTS)), trace=TRACES)
def test_a_broken_file_runs_dry_or_is_one_line(tmp_path, text, trace):
    (tmp_path / "trace.csv").write_bytes(trace)
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    settings_ = [f"fleet={path}", f"results-dir={tmp_path / 'results'}", "num-rounds=4", "hysteresis=0.2"]
    words = [word for setting in settings_ for word in ("--set", setting)]
    check(*outcome_of(["run", "--dry-run", "--json", "--num-agents", "2", *words]))


@settings(FUZZ, max_examples=100)
@given(trace=TRACES)
def test_a_broken_trace_is_read_or_one_line(tmp_path, trace):
    (tmp_path / "trace.csv").write_bytes(trace)
    tables = WITH_CUTS.partition("[[availability]]")[0]
    check(*plan(tmp_path, tables + "[availability]\nfile = 'trace.csv'\n"))


@settings(FUZZ, max_examples=100)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200)))
@example(b"\xff\xfe")
@example("\x00")
@example("a = " + "[" * 100_000)
@example("")
def test_random_bytes_are_one_line(tmp_path, content):
    check(*plan(tmp_path, content))


BAD = {
    "no agents": "[links]\nbandwidth_mbps = 1\n",
    "wrong type": WITH_CUTS.replace("id = 7", "id = 'seven'"),
    "NaN": WITH_CUTS.replace("slow_share = 0.7", "slow_share = nan"),
    "infinity": WITH_CUTS.replace("num_batches = 10", "num_batches = inf"),
    "negative": WITH_CUTS.replace("batches_per_s = 1\n", "batches_per_s = -1\n"),
    "huge": WITH_CUTS.replace("num_batches = 10", "num_batches = 1e19"),
    "huge in hexadecimal": WITH_CUTS.replace("id = 7", "id = 0x" + "f" * 5000),
    "so slow that numbers end": WITH_CUTS.replace("bandwidth_mbps = 50", "bandwidth_mbps = 5e-324"),
    "so slow that it never ends": WITH_CUTS.replace("batches_per_s = 0.5", "batches_per_s = 5e-324"),
    "a key of a million letters": "a" * 1_000_000 + " = 1\n" + WITH_CUTS,
    "a value of a million letters": f"links = '{'a' * 1_000_000}'\n[[agents]]\nid = 0\nflops_per_s = 1\n",
    "duplicated": WITH_CUTS.replace("id = 7", "id = 1", 1),
    "duplicated table": WITH_CUTS + "[links]\n",
    "duplicated row": WITH_CUTS.replace("round = 3", "round = 2"),
    "unknown agent in the trace": WITH_CUTS.replace("agent = 7", "agent = 8"),
    "share": WITH_CUTS.replace("share = 0.5\nevery", "share = 1.5\nevery"),
    "flat input": WITH_MODEL.replace("[1, 8, 8]", "[64]"),
    "no model": WITH_MODEL.replace("resnet-56", "resnet-57"),
    "an image that no memory holds": WITH_MODEL.replace("[1, 8, 8]", "[1000000, 1000000, 1000000]"),
    "a batch that no memory holds": WITH_MODEL.replace("batch_size = 32", "batch_size = 1000000000000000000"),
    "classes that no memory holds": WITH_MODEL.replace(
        "num_classes = 10", "num_classes = 1000000000000000000"
    ),
    "bytes": b"\xff\x00",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_status_2(tmp_path, name):
    status, out, err = plan(tmp_path, BAD[name])
    assert status == 2, out
    check(status, out, err)


def test_it_is_so_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(BAD["NaN"])
    code = "from comdml_flwr.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", str(path), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    check(done.returncode, done.stdout, done.stderr)


def test_the_good_files_are_planned(tmp_path):
    for content in (WITH_CUTS, WITH_MODEL):
        status, out, err = plan(tmp_path, content)
        assert (status, err) == (0, "")
        assert out
