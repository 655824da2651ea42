"""``python -m defect_mf_flows.cli``."""

from defect_mf_flows.cli import main

main()
