"""Take the pictures of docs/report.md: python docs/make_report_screenshots.py REPORT.html.

REPORT.html is the report of any finished campaign; the pictures in the documentation are of
examples/zns.yaml. Headless Chromium, which reaches nothing but the file, opens it as wide as a
desktop and as a phone.
"""

from __future__ import annotations

import io
from pathlib import Path

import click
from PIL import Image

from defect_mf_flows.testing.browser import Browser

IMAGES = Path(__file__).resolve().parent / "images"
WIDTHS = {"desktop": 1280, "phone": 390}
LARGEST = 250_000  # bytes
TALLEST = 2000  # pixels
COLOURS = (None, 256, 128)  # None: all of them; few swallow thin lines
#: Picture -> CSS selector of what it begins and ends with.
PICTURES = {
    "top": ("header", "#summary"),
    "bonds": ("#ground-states h3 ~ .table", "#ground-states h3 ~ figure"),
    "levels": ("#levels", "#levels figure"),
    "search": ("#search figure", "#search figure .cell:nth-child(4)"),
    "descriptors": ("#model h3 + figure", "#model h3 + figure"),
}
DRAWN = (
    "Array.from(document.querySelectorAll('.plot'))"
    ".every(place => place.classList.contains('js-plotly-plot'))"
)


def shoot(browser: Browser, page: Path, device: str) -> None:
    """Draw every picture at one width.

    Parameters
    ----------
    browser
        A running one.
    page
        Report.
    device
        Key of ``WIDTHS``.
    """
    width = WIDTHS[device]
    browser.open(page, width=width)
    # Figures are drawn where the window is, so it is made as tall as the page.
    browser.size(width, int(browser.run("document.documentElement.scrollHeight")))
    browser.wait(DRAWN)
    wide = browser.run("document.documentElement.scrollWidth")
    if wide > width:
        raise click.ClickException(f"{page} is {wide} pixels wide in a window of {width}")
    for name, ends in PICTURES.items():
        first, last = (browser.run(_edges(selector)) for selector in ends)
        if first is None or last is None:
            raise click.ClickException(f"{page} has nothing for the picture {name!r}: {ends}")
        height = min(last[1] - first[0], TALLEST)
        content = browser.picture(0, max(first[0] - 8, 0), width, height + 16)
        save(content, IMAGES / f"report-{name}-{device}.png")
    if browser.messages:
        raise click.ClickException(f"{page}: {'; '.join(browser.messages)}")


def _edges(selector: str) -> str:
    """JavaScript for the top and the bottom of an element."""
    return (
        f"(() => {{ const e = document.querySelector({selector!r}); if (!e) return null;"
        "const r = e.getBoundingClientRect();"
        "return [r.top + window.scrollY, r.bottom + window.scrollY]; })()"
    )


def save(content: bytes, path: Path) -> None:
    """Write a PNG with as many colours as its size allows.

    Parameters
    ----------
    content
        PNG.
    path
        File to write.
    """
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    for colours in COLOURS:
        fewer = picture.quantize(colours, dither=Image.Dither.NONE) if colours else picture
        fewer.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    else:
        raise click.ClickException(f"{path} has {path.stat().st_size} bytes, over {LARGEST}")
    click.echo(f"{path.name}  {picture.width} x {picture.height}, {path.stat().st_size} bytes")


@click.command()
@click.argument("report", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(report: Path) -> None:
    """Write docs/images/report-*.png."""
    IMAGES.mkdir(exist_ok=True)
    with Browser() as browser:
        for device in WIDTHS:
            shoot(browser, report, device)


if __name__ == "__main__":
    main()
