"""The page as a browser shows it, on a laptop and a phone, light and dark; skipped without Chromium."""

import io
import shutil
from itertools import combinations

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium (Debian: apt install chromium)"
)

ALONE = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LEAST_CONTRAST, LEAST_PX = 4.5, 9.0
OVERLAP_PX = 1.5  # boxes of text are higher than its letters
COLLECT = """() => {
  const box = e => { const b = e.getBoundingClientRect();
    return [b.left + scrollX, b.top + scrollY, b.right + scrollX, b.bottom + scrollY]; };
  const shown = e => e.checkVisibility() && e.getBoundingClientRect().width > 0;
  const texts = [...document.querySelectorAll('body *')].filter(e => shown(e) && !e.closest('thead') &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  return {
    width: document.documentElement.scrollWidth,
    figures: [...document.querySelectorAll('figure')].map(f => ({
      id: f.id,
      layouts: [...f.querySelectorAll('svg')].filter(shown).map(s => [s.parentElement.className, ...box(s)]),
      texts: [...f.querySelectorAll('svg text')].filter(shown).map(t => [t.textContent, ...box(t)]),
    })),
    texts: texts.map(e => {
      const style = getComputedStyle(e), svg = e.closest('svg');
      const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
      return {text: e.textContent.trim(), px: scale * parseFloat(style.fontSize),
              colour: svg ? style.fill : style.color, box: box(e)};
    }),
  };
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE)
        yield chromium
        chromium.close()


@pytest.fixture(
    scope="module", params=[(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")], ids=str
)
def seen(request, browser, page_file):
    """What a browser of some width and scheme shows, what it asked for, and what it complained of."""
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    found = page.evaluate(COLLECT)
    picture = page.screenshot(full_page=True)
    page.close()
    about = {"window": width, "scheme": scheme, "complaints": complaints, "requests": requests}
    return {**found, **about, "picture": picture}


def test_it_is_quiet_and_asks_for_nothing_else(seen, page_file):
    assert seen["complaints"] == []
    assert [url for url in seen["requests"] if url != "data:,"] == [page_file.as_uri()]


def test_nothing_is_wider_than_the_window(seen):
    assert seen["width"] <= seen["window"]


def test_every_figure_is_there_in_one_layout(seen):
    layout = "layout wide" if seen["window"] > 720 else "layout narrow"
    assert len(seen["figures"]) == 14
    for figure in seen["figures"]:
        ((name, left, top, right, bottom),) = figure["layouts"]
        assert name == layout, figure["id"]
        assert 0 <= left < right <= seen["window"]
        assert right - left > 0.8 * min(seen["window"], 544)
        assert bottom - top > 100


def test_no_text_of_a_figure_lies_on_another_or_outside(seen):
    for figure in seen["figures"]:
        assert len(figure["texts"]) > 5
        for text, left, _, right, _ in figure["texts"]:
            assert 0 <= left < right <= seen["window"], (figure["id"], text)
        for one, other in combinations(figure["texts"], 2):
            (text, *a), (other_text, *b) = one, other
            across = min(a[2], b[2]) - max(a[0], b[0])
            along = min(a[3], b[3]) - max(a[1], b[1])
            assert min(across, along) <= OVERLAP_PX, (figure["id"], text, other_text)


def test_all_text_is_large_enough(seen):
    small = {text["text"] for text in seen["texts"] if text["px"] < LEAST_PX}
    assert not small


def test_all_text_stands_out_from_what_is_behind_it(seen):
    from PIL import Image

    picture = Image.open(io.BytesIO(seen["picture"])).convert("RGB")
    assert picture.getpixel((2, 2)) == ((255, 255, 255) if seen["scheme"] == "light" else (20, 24, 29))
    assert len(seen["texts"]) > 200
    for text in seen["texts"]:
        left, top, right, bottom = (round(value) for value in text["box"])
        part = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        behind = max(part.getcolors(part.width * part.height))[1]
        colour = tuple(int(value) for value in text["colour"].strip("rgb()").split(",")[:3])
        assert contrast(colour, behind) >= LEAST_CONTRAST, (text, behind)


def contrast(one, other):
    """Return the contrast of two colours as WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
