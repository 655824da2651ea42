"""Take the pictures of docs/web.md: python docs/make_web_screenshots.py [--campaign F --folder D].

Runs a tiny campaign (minutes) unless it is given one, starts `defect-mf web` on it and has
headless Chromium, which reaches nothing but this machine, draw two pages.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import click
from PIL import Image, ImageChops

from defect_mf_flows.testing import write_campaign

IMAGES = Path(__file__).resolve().parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CLI = [sys.executable, "-m", "defect_mf_flows.cli"]
LARGEST = 300_000
MARGIN = 20


def shoot(url: str, path: Path, width: int, height: int) -> None:
    """Draw a page, cut the empty rows off its end and make the file small.

    Parameters
    ----------
    url
        A page of this machine.
    path
        PNG to write.
    width, height
        Of the window, in pixels; what lies below it is lost.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise click.ClickException("no Chromium on PATH; install it (Debian: apt install chromium)")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--hide-scrollbars"]
    command += [f"--window-size={width},{height}", "--virtual-time-budget=10000"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command += [f"--user-data-dir={profile}", f"--screenshot={path}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    picture = Image.open(path).convert("RGB")
    background = Image.new("RGB", picture.size, picture.getpixel((0, picture.height - 1)))
    box = ImageChops.difference(picture, background).getbbox()
    if box is None:
        raise click.ClickException(f"{url}: the page is empty")
    picture = picture.crop((0, 0, picture.width, min(picture.height, box[3] + MARGIN)))
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise click.ClickException(f"{path} has {path.stat().st_size} bytes, over {LARGEST}")
    click.echo(f"{path}  {picture.width} x {picture.height}, {path.stat().st_size} bytes")


@click.command()
@click.option("--campaign", type=click.Path(path_type=Path), help="Its file. [default: a tiny one]")
@click.option("--folder", type=click.Path(path_type=Path), help="Where it was run.")
def main(campaign: Path | None, folder: Path | None) -> None:
    """Write docs/images/web-workflows.png and web-graph.png."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        if campaign is None or folder is None:
            campaign, folder = write_campaign(Path(temporary)), Path(temporary) / "tiny"
            subprocess.run([*CLI, "run", str(campaign), "--folder", str(folder)], check=True)
        command = [*CLI, "web", str(campaign), "--folder", str(folder)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[3].rstrip("/")  # "web UI at ADDRESS (..."
            with urllib.request.urlopen(f"{address}/wf/1/json") as answer:
                click.echo(f"{len(json.load(answer)['nodes'])} jobs")
            shoot(f"{address}/", IMAGES / "web-workflows.png", 1280, 1600)
            shoot(f"{address}/wf/1", IMAGES / "web-graph.png", 1600, 2400)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


if __name__ == "__main__":
    main()
