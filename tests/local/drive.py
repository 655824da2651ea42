"""A supervisor in a process of its own: python drive.py FOLDER LOG NAP_SECONDS."""

from __future__ import annotations

import logging
import sys

from jobs_for_tests import nap_flow

from defect_mf_flows.errors import ServiceError
from defect_mf_flows.local.runner import LocalRunner, ProgressPrinter

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    folder, log, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with ProgressPrinter(interval=1.0) as printer:
        try:
            LocalRunner(folder, 2).run(
                lambda: nap_flow(log, seconds), {"campaign_hash": "naps"}, printer
            )
        except ServiceError as error:
            sys.exit(f"ServiceError: {error}")
