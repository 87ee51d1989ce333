"""The last section of the page: all settings, versions, and the files that run the comparison again."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from comdml_flwr.comparison.contents import Comparison, Run, Scalar

_LONGEST = 60_000  # characters of a file that the page holds; of a longer one it holds a link


def what_was_run(comparison: Comparison) -> str:
    """Return the section."""
    rows = "\n".join(_row(what, cell) for what, cell in _settings(comparison))
    return f"""<section id="settings">
<h2>What was run</h2>
<p>Keys of the run configuration that the comparison sets. A case's key goes before a method's, and that
before the one for all runs.</p>
<div class="scroll"><table class="settings">
<tbody>
{rows}
</tbody>
</table></div>
{_all_settings(comparison)}
<h3>With what</h3>
{_software(comparison)}
<h3>To have it again</h3>
{_again(comparison)}
</section>"""


def count(number: int, what: str) -> str:
    """Return a number of things: "1 seed", "2 seeds"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _settings(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Return the rows of the table: what they are of, and keys and values as HTML."""
    shared = _shared(
        [{**method.numbers.settings, **case.settings} for case in comparison.cases for method in case.methods]
    )
    yield "all runs", _keys(shared)
    for case in comparison.cases:
        own = {key: value for key, value in case.settings.items() if key not in shared}
        about = f"fleet {escape(case.fleet)}, {count(case.num_agents, 'agent')}"
        yield f"case {escape(case.label)}", f"{about} {_keys(own)}"
    methods = {m.label: m.numbers.settings for case in reversed(comparison.cases) for m in case.methods}
    for label in comparison.labels:
        own = {key: value for key, value in methods[label].items() if key not in shared}
        if own:
            yield f"method {escape(label)}", _keys(own)


def _shared(settings: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """Return the keys that have one value in all of them."""
    first, *others = settings
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _runs(comparison: Comparison) -> list[Run]:
    return [run for case in comparison.cases for method in case.methods for run in method.runs]


def _all_settings(comparison: Comparison) -> str:
    """Return what all runs have in common, defaults included."""
    shared = _shared([run.config for run in _runs(comparison)])
    return f"""<details>
<summary>All {len(shared)} keys that have one value in all runs, defaults included</summary>
<p class="keys">{_keys(shared)}</p>
</details>"""


def _software(comparison: Comparison) -> str:
    """Return a table of versions for each kind of machine that trained runs."""
    kept = Counter(tuple(sorted(run.software.items())) for run in _runs(comparison) if run.software)
    if not kept:
        return "<p>Versions were not kept with these runs.</p>"
    tables = []
    for versions, num_runs in kept.most_common():
        rows = "\n".join(_row(escape(name), f"<code>{escape(value)}</code>") for name, value in versions)
        head = f"<p>{count(num_runs, 'run')}:</p>" if len(kept) > 1 else ""
        tables.append(f"""{head}<div class="scroll"><table class="settings versions"><tbody>
{rows}
</tbody></table></div>""")
    return "\n".join(tables)


def _again(comparison: Comparison) -> str:
    again = """<p><code>comdml report FOLDER</code> makes this page, its pictures and its tables again from
the folder's files alone, without training, the same to the byte.</p>"""
    if not comparison.inputs:
        return f"""<p><code>comdml compare CONFIG.toml</code>, with the file that described this comparison,
runs it; runs that have finished are kept.</p>
{again}"""
    files = "\n".join(_file(path, text) for path, text in comparison.inputs.items())
    return f"""<p>Keep the files below under their names in a new folder, and there run
<code>comdml compare {escape(next(iter(comparison.inputs)))}</code>: with the versions above, on the same type
of machine, all numbers on this page come out the same.</p>
{files}
{again}"""


def _file(path: str, text: str) -> str:
    shown = f"<pre>{escape(text)}</pre>" if len(text) <= _LONGEST else ""
    link = f'<a href="{escape(path)}">{escape(path)}</a>'
    if not shown:
        return f"<p>{link}, too long to be shown here</p>"
    return f"<details>\n<summary><code>{escape(path)}</code></summary>\n<p>{link}</p>\n{shown}\n</details>"


def _row(what: str, cell: str) -> str:
    return f'<tr><th scope="row">{what}</th><td>{cell}</td></tr>'


def _keys(settings: Mapping[str, Scalar]) -> str:
    return " ".join(
        f"<code>{escape(key)} = {escape(json.dumps(value, ensure_ascii=False))}</code>"
        for key, value in sorted(settings.items())
    )
