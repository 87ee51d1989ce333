"""The picture of the package's floors: drawn from the imports themselves, as the tests read them.

An arrow says that a package imports another one. Arrows that follow from others are left out: `cli` imports
`core` as well, and reaches it by the arrows that are drawn.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import networkx as nx

from tests.test_project import FLOORS, import_graph, room_of

_WIDTH, _ROW, _BOX, _MARGIN = 760, 84, 40, 24
_STYLE = (
    ".ours{fill:#e8eefc;stroke:#3f51b5}.app{fill:#fff4e0;stroke:#b26a00}"
    "text{font:15px system-ui,sans-serif;text-anchor:middle;fill:#1a1a1a}"
    ".floor{font-size:13px;fill:#666}rect{rx:6px}path{stroke:#555;stroke-width:1.4;fill:none}"
)
_TIP = 'id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
_OF_THE_APP = {"clients", "strategies", "experiments", "examples"}


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float


def imports_between_rooms() -> list[tuple[str, str]]:
    """Return which package imports which, without what follows from other imports."""
    graph = nx.DiGraph()
    for own, other in import_graph().edges:
        room, below = room_of(own), room_of(other)
        if room and below and room != below:
            graph.add_edge(room, below)
    return sorted(nx.transitive_reduction(graph).edges)


def floors_picture() -> str:
    """Return the picture as SVG."""
    boxes = _boxes()
    height = 2 * _MARGIN + _ROW * len(FLOORS) - (_ROW - _BOX)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}">',
        "<title>The floors of the package: imports only point down</title>",
        f"<style>{_STYLE}</style>",
        f"<defs><marker {_TIP}><path d='M0 0L8 4L0 8z' style='fill:#555;stroke:none'/></marker></defs>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#fff"/>',
        *_arrows(boxes),
        *_rooms(boxes),
    ]
    return "\n".join([*lines, "</svg>", ""])


def _boxes() -> dict[str, _Box]:
    """Return where each room is drawn: the ground floor lowest, and a floor's rooms side by side."""
    boxes = {}
    for number, floor in enumerate(FLOORS):
        rooms = sorted(floor, key=lambda room: (room in _OF_THE_APP, room))
        share = (_WIDTH - 4 * _MARGIN) / len(rooms)
        y = _MARGIN + _ROW * (len(FLOORS) - 1 - number)
        for place, room in enumerate(rooms):
            width = min(share - 16, 128)
            boxes[room] = _Box(3 * _MARGIN + share * (place + 0.5) - width / 2, y, width)
    return boxes


def _arrows(boxes: Mapping[str, _Box]) -> Iterator[str]:
    for room, below in imports_between_rooms():
        start, end = boxes[room], boxes[below]
        x1, x2 = start.x + start.width / 2, end.x + end.width / 2
        y1, y2 = start.y + _BOX, end.y - 1
        bend = (y2 - y1) / 2
        curve = f"M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
        yield f'<path d="{curve}" marker-end="url(#tip)"/>'


def _rooms(boxes: Mapping[str, _Box]) -> Iterator[str]:
    for number, floor in enumerate(FLOORS):
        for room in sorted(floor):
            box = boxes[room]
            kind = "app" if room in _OF_THE_APP else "ours"
            yield (
                f'<rect class="{kind}" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{_BOX}"/>'
                f'<text x="{box.x + box.width / 2:g}" y="{box.y + _BOX / 2 + 5:g}">{room}</text>'
            )
        yield f'<text class="floor" x="{1.5 * _MARGIN:g}" y="{box.y + _BOX / 2 + 5:g}">{number + 1}</text>'
