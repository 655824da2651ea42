"""Which jobs the queue of this machine knows."""

from __future__ import annotations

import logging
import shutil
import subprocess

logger = logging.getLogger(__name__)

SECONDS = 60.0


def known_queue_jobs() -> set[str] | None:
    """Return the ids of all waiting and running jobs of Slurm.

    Returns
    -------
    set of str or None
        None where there is no Slurm, or it does not answer: then nothing is known.
    """
    command = shutil.which("squeue")
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, "--noheader", "--format=%i"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("the queue does not answer: %s", error)
        return None
    return set(done.stdout.split())
