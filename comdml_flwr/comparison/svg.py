"""An SVG of matplotlib's, made fit to stand in a page: text as text, colours as CSS variables, ids unique."""

import re

from comdml_flwr.comparison.palette import LIGHT

_NAME_OF = {light: name for name, light in LIGHT.items()}


def inline(svg: str, key: str, title: str) -> str:
    """Return an SVG element for a page.

    Parameters
    ----------
    svg : str
        A whole file, as `savefig` writes it with `svg.fonttype = "none"`.
    key : str
        What no other figure of the page has: all ids begin with it.
    title : str
        What a screen reader says, as HTML.
    """
    body = svg[svg.index("<svg") :].strip()
    for dropped in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>", r"<defs>\s*</defs>"):
        body = re.sub(dropped, "", body, flags=re.DOTALL)
    body = re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda found: _variable(found[0]), body)
    body = re.sub(r"(font: [^;\"]*?)'[^;\"]*", r"\1sans-serif", body)
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _shorter, tag[0]), body)
    box = re.search(r'viewBox="([^"]*)"', body)
    assert box is not None
    opening = f'<svg viewBox="{box[1]}" role="img" aria-label="{title}">'
    body = opening + _with_own_ids(body[body.index(">") + 1 :], key)
    return re.sub(r">\s+<", ">\n<", body)


def _shorter(number: re.Match[str]) -> str:
    """Return a coordinate to a hundredth of a point; what people read stands between the tags."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _variable(colour: str) -> str:
    name = _NAME_OF.get(colour)
    return f"var(--{name})" if name else colour


def _with_own_ids(body: str, key: str) -> str:
    """Return the same with ids that begin with a key; ids that nothing refers to are dropped."""
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r'\s+id="([^"]*)"', lambda found: _id(found[1], key) if found[1] in used else "", body)
    return re.sub(r'(url\(|href=")#', rf"\1#{key}-", body)


def _id(name: str, key: str) -> str:
    return f' id="{key}-{name}"'
