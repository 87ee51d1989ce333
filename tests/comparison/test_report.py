"""The report of a comparison: what it holds, that its bytes follow from the files, and what odd files do."""

import csv
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from math import inf

import pytest

from comdml_flwr.comparison.contents import Span
from comdml_flwr.comparison.curves import curve_of, make_logarithmic
from comdml_flwr.comparison.heat import level_of, thin_ticks
from comdml_flwr.comparison.idle import why_idle
from comdml_flwr.comparison.main_table import main_rows
from comdml_flwr.comparison.palette import COLOURS, LIGHT, styles_of
from comdml_flwr.comparison.reading import read_comparison
from comdml_flwr.comparison.report import write_report
from comdml_flwr.comparison.timeline import merge
from comdml_flwr.comparison.verdict import verdict
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.units import human_s, unit_of_bytes, unit_of_s
from tests.comparison.folders import MAIN_METHODS, made_up_folder, real_folder, write_folder
from tests.comparison.runs import made_up_run

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # matplotlib's, of figures that do not fit


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A folder of real runs with its report; tests read it and do not change it."""
    folder = real_folder(tmp_path_factory.mktemp("real") / "small")
    write_report(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bytes_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.ids, self.references, self.texts = Counter(), Counter(), set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids[value] += 1
            if name in ("href", "src", "xlink:href"):
                self.references.add(value)
            self.references |= {f"#{found}" for found in re.findall(r"url\(#([^)]*)\)", value or "")}

    def handle_data(self, data):
        self.texts.append(data)


def check_page(folder):
    """Check what holds for every page; return it."""
    page = Page(folder / "report.html")
    assert page.tags["svg"] == 2 * page.tags["figure"] > 0
    assert page.tags["script"] == page.tags["img"] == 0
    assert max(page.ids.values()) == 1
    for reference in page.references - {"data:,"}:
        if reference.startswith("#"):
            assert reference[1:] in page.ids
        else:
            assert (folder / reference).is_file()
    return page


def test_the_page_stands_alone_and_all_that_it_refers_to_is_there(real):
    page = check_page(real)
    assert page.tags["figure"] == 7
    assert {path.suffix for path in (real / "plots").iterdir()} == {".png"}


def test_every_colour_of_a_figure_is_a_variable_that_both_schemes_have(real):
    text = (real / "report.html").read_text()
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        assert not re.search(r"#[0-9a-f]{3,8}\b", re.sub(r'(url\(|href=")#', "", svg))
        assert set(re.findall(r"var\(--([^)]*)\)", svg)) <= COLOURS.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)


def test_the_main_table_holds_the_numbers_of_comparison_json(real):
    numbers = json.loads((real / "comparison.json").read_text())["cases"][0]["methods"]
    rows = rows_of(real / "4-agents-iid-main.csv")
    assert [row["method"] for row in rows] == [method["label"] for method in numbers]
    texts = " ".join(Page(real / "report.html").texts)
    for row, method in zip(rows, numbers, strict=True):
        assert float(row["accuracy_mean"]) == method["accuracy"]["mean"]
        assert (row["time_to_0.99_mean_s"], row["time_to_0.99_num_reached"]) == ("", "0")
        assert f"{method['accuracy']['mean']:.3f}" in texts
        assert float(row["virtual_time_spread_s"]) == method["virtual_time_s"]["spread"]
        longest_s = max(method["virtual_time_s"]["by_seed"].values())
        assert f"in {unit_of_s(longest_s).show(longest_s)}" in texts
    assert "not reached" in texts


def test_the_page_begins_with_the_verdict_of_each_case(real):
    (case,) = read_comparison(real).cases
    said = verdict([method.numbers for method in case.methods], (0.15, 0.99), "AllReduce")
    texts = " ".join(Page(real / "report.html").texts).replace("\xa0", " ")
    assert said.startswith("ComDML")
    assert texts.index(said) < texts.index("Compared")


def test_under_the_first_round_each_method_says_who_waits_and_why(real):
    (case,) = read_comparison(real).cases
    texts = Page(real / "report.html").texts
    for method in case.methods:
        assert why_idle(method.runs[0]) in texts


def test_among_one_seed_or_one_method_nothing_is_the_best(tmp_path):
    for name, keys, has_best in (
        ("one seed", {"seeds": (1,)}, False),
        ("one method", {"methods": ("FedAvg",)}, False),
        ("two", {"seeds": (1, 2)}, True),
    ):
        folder = made_up_folder(
            tmp_path / name, **{"methods": ("ComDML", "FedAvg"), "num_rounds": 2, **keys}, num_agents=2
        )
        (case,) = read_comparison(folder).cases
        rows = main_rows(case, (0.9, 0.95))
        assert any(cell.is_best for row in rows for cell in row) == has_best, name


def test_the_curves_end_at_the_final_accuracies_and_the_whole_time(real):
    numbers = json.loads((real / "comparison.json").read_text())["cases"][0]["methods"]
    rows = rows_of(real / "4-agents-iid-accuracy-by-time.csv")
    for method in numbers:
        own = [row for row in rows if row["method"] == method["label"]]
        assert float(own[-1]["accuracy_mean"]) == pytest.approx(method["accuracy"]["mean"])
        latest_s = max(method["virtual_time_s"]["by_seed"].values())
        assert float(own[-1]["virtual_time_s"]) == pytest.approx(latest_s)


def test_the_timeline_of_a_real_run_ends_within_its_round(real):
    run = read_comparison(real).cases[0].methods[0].runs[0]
    rows = rows_of(real / "4-agents-iid-first-round.csv")
    own = [row for row in rows if row["method"] == "ComDML"]
    assert {row["what"] for row in own} == {"compute", "help", "send", "wait"}
    assert {row["what"] for row in rows if row["method"] == "AllReduce"} == {"compute", "send", "wait"}
    assert "trains another agent's layers" in " ".join(Page(real / "report.html").texts)
    assert max(float(row["end_s"]) for row in own) <= run.rounds[0].virtual_time_s * (1 + 1e-9)


def first_pairs(method):
    return method.runs[0].rounds[0].plan.pairs


def test_the_pairs_are_those_of_the_rounds(real):
    rows = rows_of(real / "4-agents-iid-pairs.csv")
    case = read_comparison(real).cases[0]
    assert {row["method"] for row in rows} == {"ComDML", "ComDML, greedy"}
    for method in case.methods:
        counted = sum(len(round_.plan.pairs) for run in method.runs for round_ in run.rounds)
        own = [row for row in rows if row["method"] == method.label]
        assert sum(int(row["num_rounds"]) for row in own) == counted
        cuts = {(str(pair.slow), str(pair.fast)): str(pair.cut) for pair in first_pairs(method)}
        shown = {(row["slow"], row["fast"]): row["cut_in_first_round"] for row in own}
        assert {pair: cut for pair, cut in shown.items() if cut} == cuts


def test_a_curve_is_the_mean_of_the_seeds_step_functions(tmp_path):
    runs = {1: made_up_run(1), 2: made_up_run(2)}
    for seed, times in ((1, (1.0, 1.0, 1.0)), (2, (2.0, 2.0, 2.0))):
        for number, round_ in enumerate(runs[seed].rounds):
            round_ |= {"virtual_time_s": times[number], "accuracy": (0.1, 0.2, 0.3)[number] * seed}
    folder = write_folder(tmp_path, {"case": {"method": runs}})
    method = read_comparison(folder).cases[0].methods[0]
    ends = {1: [1.0, 2.0, 3.0], 2: [2.0, 4.0, 6.0]}
    curve = curve_of("method", method.runs, lambda run: ends[run.seed])
    assert list(curve.x) == [2, 3, 4, 6]
    assert list(curve.least) == pytest.approx([0.2, 0.2, 0.3, 0.3])
    assert list(curve.most) == pytest.approx([0.2, 0.3, 0.4, 0.6])
    assert list(curve.mean) == pytest.approx([0.2, 0.25, 0.35, 0.45])


def test_a_method_looks_the_same_in_every_case_and_no_two_of_forty_look_the_same():
    styles = styles_of([str(number) for number in range(40)])
    assert len({(style.colour, style.line) for style in styles.values()}) == 40
    assert styles_of(["0", "1"])["1"] == styles["1"]


def test_spans_that_no_eye_tells_apart_are_one():
    spans = [
        Span(what="send", start_s=start, end_s=end) for start, end in ((3, 4), (0, 1), (1.01, 2), (0.2, 0.4))
    ]
    assert merge(spans, 0.1) == [(0, 2), (3, 4)]
    assert merge(spans, 0.0) == [(0, 1), (1.01, 2), (3, 4)]


@pytest.mark.parametrize("decades", [0.95, 1.5, 4])
def test_a_logarithmic_axis_has_more_than_one_number(decades):
    from matplotlib.figure import Figure

    first, last = 0.12, 0.12 * 10**decades
    axes = Figure().subplots()
    axes.plot([first, last], [0, 1])
    make_logarithmic(axes, first, last)
    assert len([tick for tick in axes.get_xticks() if first <= tick <= last]) >= 2


def test_levels_and_ticks_cover_the_whole_range():
    assert [level_of(value, 60) for value in (0.01, 10, 10.01, 59, 60)] == [0, 0, 1, 5, 5]
    assert thin_ticks(list("abcde"), 5) == ([0, 1, 2, 3, 4], list("abcde"))
    assert thin_ticks(list("abcde"), 2) == ([0, 3], ["a", "d"])


def test_a_column_has_one_unit_but_for_what_would_read_0():
    assert [unit_of_s(longest).show(30) for longest in (0.05, 2999, 3000, 180_000)] == [
        "30,000 ms", "30.0 s", "0.50 min", "0.01 h",
    ]  # fmt: skip
    assert [unit_of_bytes(most).show(2.5e6) for most in (999, 1e6, 1e9)] == [
        "2,500,000 B",
        "2.50 MB",
        "2.50 MB",
    ]
    assert [unit_of_s(180_000).show(time_s) for time_s in (0, 0.2, 2e-4)] == ["0.00 h", "0.20 s", "0.20 ms"]
    assert [unit_of_s(100).show(7.256, spread_s) for spread_s in (None, 0.0, 0.004, 1.26)] == [
        "7.26 s", "7.26 ± 0.00 s", "7.26 ± <0.01 s", "7.26 ± 1.26 s",
    ]  # fmt: skip
    assert unit_of_s(9000).show(5400.0, 120.0) == "90.0 ± 2.0 min"


def test_what_would_read_0_seconds_is_said_in_a_smaller_unit():
    assert [human_s(time_s) for time_s in (0.0, 3e-5, 9.996e-5, 0.0994, 0.0996, 599.9, 7199, inf)] == [
        "0.0 s", "30.0 µs", "0.1 ms", "99.4 ms", "0.1 s", "599.9 s", "120.0 min", "never",
    ]  # fmt: skip


ODD_FOLDERS = {
    "one seed, one round": {"num_rounds": 1, "seeds": (1,)},
    "two agents, five targets": {"num_agents": 2, "num_rounds": 4, "targets": (0.3, 0.4, 0.5, 0.6, 0.7)},
    "nothing reached": {"targets": (1.5,), "num_rounds": 2},
    "one agent, no target": {
        "num_agents": 1,
        "num_rounds": 2,
        "seeds": (1,),
        "methods": ("AllReduce",),
        "targets": (),
    },
}


@pytest.mark.parametrize("name", ODD_FOLDERS)
def test_odd_folders_have_a_page_too(name, tmp_path):
    keys = {"methods": ("ComDML", "FedAvg"), **ODD_FOLDERS[name]}
    folder = made_up_folder(tmp_path, **keys)
    write_report(folder)
    page = check_page(folder)
    assert page.tags["figure"] == (5 if name == "one agent, no target" else 7)
    assert set(keys["methods"]) <= set(page.texts)
    assert (folder / "report.html").stat().st_size < 3e6


def test_ten_methods_and_a_hundred_agents_have_a_page_too(page_file):
    page = check_page(page_file.parent)
    assert page.tags["figure"] == 2 * 7
    assert MAIN_METHODS.keys() <= set(page.texts)
    assert page_file.stat().st_size < 3e6


def test_no_pairs_no_timelines_and_no_samples_leave_their_figures_out(tmp_path):
    run = made_up_run()
    for agent in run.agents:
        agent.update(timeline=[], label_counts=[])
    write_report(write_folder(tmp_path, {"case": {"AllReduce": {1: run}}}))
    page = check_page(tmp_path)
    assert page.tags["figure"] == 4
    assert not [name for name in page.ids if name.endswith(("pairs", "partition", "first-round"))]


def test_many_cases_and_methods_that_are_not_in_all_of_them_with_labels_as_they_are(tmp_path):
    label, case = '<b>"A" & $x$</b>', "</title><script>alert(1)</script>"
    runs = {1: made_up_run(has_pairs=True)}
    cases = {case: {"ComDML": runs, label: runs}, "case 1": {"ComDML": runs, "_hidden": runs}}
    write_report(write_folder(tmp_path, cases, reference="ComDML", name="<u>n", about="a < b & c"))
    page = check_page(tmp_path)
    assert page.tags["section"] == 3
    assert page.tags["figure"] == 2 * 7
    assert {"title-script-alert-1-script", "case-1"} <= page.ids.keys()
    assert {label, "_hidden", case, "case 1", "<u>n", "a < b & c"} <= set(page.texts)
    assert page.tags["b"] == page.tags["u"] == 0
    assert page.texts.count(" _hidden") >= 6  # in the legends of three figures, each drawn twice


def test_the_command_makes_the_same_bytes_in_another_place_and_prints_where(comdml, here, real, monkeypatch):
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20)  # as a user's matplotlibrc might
    shutil.copytree(real, here / "small", ignore=shutil.ignore_patterns("*.csv", "*.html", "plots"))
    status, out, err = comdml("report", "small")
    assert (status, out.strip(), err) == (0, "small/report.html", "")
    assert bytes_of(here / "small") == bytes_of(real)


RUN = "runs/4-agents-iid/allreduce/seed-2"


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_a_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def put(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("comparison.json", cut_off, "is not JSON"),
        ("comparison.json", lambda path: path.unlink(), "No such file"),
        ("comparison.json", put('"seeds": [', '"seed": ['), "seeds: must be given"),
        ("comparison.json", put('"0.99"', '"0.9"'), "lacks a time to 0.99"),
        (f"{RUN}/rounds.jsonl", cut_off, "line 2 is no table of JSON: "),
        (f"{RUN}/rounds.jsonl", lose_a_line, "lacks rounds that summary.json counts"),
        (f"{RUN}/rounds.jsonl", put('"accuracy": 0.', '"exactness": 0.'), "accuracy: must be given"),
        (f"{RUN}/rounds.jsonl", put('"accuracy": 0.', '"accuracy": NaN, "x": 0.'), "must be a finite number"),
        (f"{RUN}/agents.json", cut_off, "is not JSON"),
        (f"{RUN}/agents.json", lambda path: path.unlink(), "No such file"),
        (f"{RUN}/agents.json", put('"start_s":', '"start_s": "no", "x":'), "start_s: must be a number"),
        (f"{RUN}/summary.json", lambda path: path.unlink(), "this run has not finished"),
    ],
)  # fmt: skip
def test_a_harmed_file_is_one_line_and_leaves_the_old_report(comdml, here, real, name, harm, said):
    folder = shutil.copytree(real, here / "small")
    harm(folder / name)
    before = bytes_of(folder)
    status, out, err = comdml("report", "small")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert name in err
    assert bytes_of(folder) == before


def test_without_matplotlib_it_says_what_to_install(comdml, here, real, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    status, out, err = comdml("report", str(real))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "needs matplotlib: pip install" in err


def test_a_case_without_a_file_name_of_its_own_is_refused(tmp_path):
    runs = {1: made_up_run()}
    for cases in ({"A b": {"m": runs}, "a-B": {"m": runs}}, {"!": {"m": runs}}):
        with pytest.raises(InputError, match="gives no file name of its own"):
            write_report(write_folder(tmp_path, cases))
