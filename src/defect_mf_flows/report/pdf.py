"""A page as PDF, printed by a headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from defect_mf_flows.errors import ResultsError

#: Programs that print, and the variable that names another.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VARIABLE = "DEFECT_MF_CHROMIUM"
TIMEOUT = 300
#: Milliseconds of the page's own clock that its figures get.
BUDGET = 20_000


def find_browser() -> str:
    """Path of a Chromium or Chrome.

    Raises
    ------
    ResultsError
        If there is none; says how to get one, or do without.
    """
    named = os.environ.get(VARIABLE)
    for name in (named,) if named else BROWSERS:
        found = shutil.which(name)
        if found is not None:
            return found
    missing = f"{VARIABLE} is {named!r}, which is no program" if named else "no Chromium on PATH"
    raise ResultsError(
        f"--pdf: {missing}; install Chromium (Debian: apt install chromium), name another with "
        f"{VARIABLE}, or open the HTML page in any browser and print it to a file."
    )


def print_pdf(page: Path, path: Path) -> Path:
    """Print an HTML page to a PDF.

    Parameters
    ----------
    page
        Page on this machine; it needs nothing else, and gets nothing else.
    path
        File to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ResultsError
        If there is no browser, or it writes no PDF.
    """
    browser = find_browser()
    command = [browser, "--headless", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--no-pdf-header-footer"]
    command += [f"--virtual-time-budget={BUDGET}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium refuses to start for root with it
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "page.pdf"
        command += [f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}"]
        try:
            done = subprocess.run(
                [*command, page.resolve().as_uri()],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            said = done.stderr.strip().splitlines()[-3:]
        except subprocess.TimeoutExpired:
            said = [f"not done after {TIMEOUT} s"]
        except OSError as error:
            said = [str(error)]
        if not made.is_file() or not made.read_bytes().startswith(b"%PDF"):
            raise ResultsError(
                f"{browser} printed no PDF of {page}: {' / '.join(said) or 'it said nothing'}; "
                "open the page in a browser and print it to a file."
            )
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            shutil.copyfile(made, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path
