"""The page: one HTML file with all figures in it; it needs no script, no network and no font of its own."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from comdml_flwr.comparison.chart import Chart, Drawn
from comdml_flwr.comparison.contents import Case, Comparison
from comdml_flwr.comparison.main_table import Shown, can_be_best, main_columns, main_rows
from comdml_flwr.comparison.palette import Style, css_variables
from comdml_flwr.comparison.verdict import shares_left_out, verdict
from comdml_flwr.comparison.what_was_run import count, what_was_run

Drawings = Sequence[tuple[Chart, Drawn]]


def make_page(comparison: Comparison, drawings: Mapping[str, Drawings], styles: Mapping[str, Style]) -> str:
    """Return the page of a comparison.

    Parameters
    ----------
    comparison : Comparison
        What it shows.
    drawings : Mapping[str, Drawings]
        The figures of each case, by the case's name.
    styles : Mapping[str, Style]
        How each method is drawn, by its label.
    """
    style = css_variables() + files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    cases = "\n".join(_case(comparison, case, drawings[case.name], styles) for case in comparison.cases)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(comparison.name)}: comparison of methods</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
{_header(comparison)}
{_contents(comparison, drawings)}
<main>
{cases}
{what_was_run(comparison)}
</main>
</body>
</html>
"""


def _header(comparison: Comparison) -> str:
    num_methods, num_cases = len(comparison.labels), len(comparison.cases)
    facts = {
        "Compared": f"{count(num_methods, 'method')} in {count(num_cases, 'case')}",
        "Seeds": ", ".join(map(str, comparison.seeds)),
        f"Targets of test {comparison.metric}": ", ".join(f"{target:g}" for target in comparison.targets)
        or "none",
        "Ratios are to": comparison.reference,
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"""<header>
<p class="kind">Comparison of methods</p>
<h1>{escape(comparison.name)}</h1>
<p class="about">{escape(comparison.about)}</p>
{_verdict(comparison)}
<dl class="facts">{listed}</dl>
<p class="note"><strong>Every time on this page is modelled:</strong> virtual seconds of one clock for all
methods, with the model, bytes and samples that were really trained, and speeds and links from the fleet.
Accuracies are those of the real training. Nothing on this page was taken with a stopwatch.</p>
</header>"""


def _verdict(comparison: Comparison) -> str:
    """Return what was found in each case."""
    found = []
    for case in comparison.cases:
        said = verdict([m.numbers for m in case.methods], comparison.targets, comparison.reference)
        name = f"<strong>{escape(case.label)}.</strong> " if len(comparison.cases) > 1 else ""
        found.append(f"<p>{name}{escape(said).replace(' %', '&nbsp;%')}</p>")
    return f'<div class="verdict">{"".join(found)}</div>'


def _unbroken(text: str) -> str:
    """Return a text in which no line breaks within a quantity."""
    return text.replace(" %", "&nbsp;%").replace(" ± ", "&nbsp;±&nbsp;")


def _contents(comparison: Comparison, drawings: Mapping[str, Drawings]) -> str:
    items = "\n".join(
        f'<li><a href="#{case.name}">{escape(case.label)}</a><span class="parts">'
        f'<a href="#{case.name}-table">Table</a>'
        + "".join(
            f'<a href="#{case.name}-{chart.name}">{escape(chart.title)}</a>'
            for chart, _ in drawings[case.name]
        )
        + "</span></li>"
        for case in comparison.cases
    )
    return f"""<nav aria-label="Contents">
<ol>
{items}
</ol>
<p><a href="#settings">What was run, and how to have it again</a></p>
</nav>"""


def _case(comparison: Comparison, case: Case, drawings: Drawings, styles: Mapping[str, Style]) -> str:
    figures = "\n".join(_figure(case, chart, drawn) for chart, drawn in drawings)
    return f"""<section id="{case.name}">
<h2>{escape(case.label)}</h2>
<p class="fleet">{count(case.num_agents, "agent")}, fleet {escape(case.fleet)}</p>
{_main_table(comparison, case, styles)}
{figures}
</section>"""


def _main_table(comparison: Comparison, case: Case, styles: Mapping[str, Style]) -> str:
    columns = main_columns(case.metric, comparison.targets)
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(
        "<tr>" + _label(row[0], styles) + "".join(map(_cell, columns[1:], row[1:])) + "</tr>"
        for row in main_rows(case, comparison.targets)
    )
    return f"""<div class="table" id="{case.name}-table">
<h3>All methods</h3>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
{_left_out(case)}<p class="caption">{escape(_how_to_read(comparison, case))}</p>
{_source("comparison.json", case, "main")}
</div>"""


def _left_out(case: Case) -> str:
    """Say whose share was left out in how many rounds, if anybody's was: the numbers above are without it."""
    said = shares_left_out([method.numbers for method in case.methods])
    if not said:
        return ""
    return f'<p class="caption"><strong>Shares that were left out.</strong> {escape(said)}.</p>\n'


def _how_to_read(comparison: Comparison, case: Case) -> str:
    """Say what the main table's numbers are."""
    num_seeds = len(comparison.seeds)
    numbers = f"Means over {num_seeds} seeds; ± is the sample standard deviation"
    if num_seeds == 1:
        numbers = "One seed: how far the numbers spread is not known, and none is called the best"
    bold = ", bold the best of a column" if can_be_best(case) else ""
    return (
        f"{numbers}; x is the ratio to {comparison.reference}{bold}. A time to a target ends with the first"
        f" round whose test {case.metric} reaches it; unless all seeds did, the cell says how many, and how"
        " long the longest run was. Modelled: all times are virtual, averaging included."
    )


def _label(shown: Shown, styles: Mapping[str, Style]) -> str:
    dot = f'<i style="background:var(--{styles[shown.text].variable})"></i>'
    return f'<th scope="row">{dot}{escape(shown.text)}</th>'


def _cell(column: str, shown: Shown) -> str:
    kind = "best" if shown.is_best else "missing" if shown.is_missing else ""
    beside = f" <small>{escape(shown.beside)}</small>" if shown.beside else ""
    marked = f' class="{kind}"' if kind else ""
    return f'<td{marked} data-name="{escape(column)}"><span>{escape(shown.text)}{beside}</span></td>'


def _figure(case: Case, chart: Chart, drawn: Drawn) -> str:
    layouts = "\n".join(f'<div class="layout {name}">{svg}</div>' for name, svg in drawn.svg.items())
    return f"""<figure id="{case.name}-{chart.name}">
<h3>{escape(chart.title)}</h3>
{layouts}
<figcaption class="caption">{escape(chart.about)}{_notes(chart)}</figcaption>
{_source(chart.source, case, chart.name, has_picture=True)}
</figure>"""


def _notes(chart: Chart) -> str:
    notes = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in chart.notes
    )
    return f'<dl class="notes">{notes}</dl>' if notes else ""


def _source(source: str, case: Case, name: str, *, has_picture: bool = False) -> str:
    links = [f'<a href="{case.name}-{name}.csv">CSV</a>']
    if has_picture:
        links.append(f'<a href="plots/{case.name}-{name}.png">PNG</a>')
    return (
        f'<p class="source">{" ".join(links)} <span>from <code>{escape(source)}</code>'
        " by <code>comdml report</code></span></p>"
    )
