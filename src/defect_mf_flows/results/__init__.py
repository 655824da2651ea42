"""The query API over any job store, the same for library, CLI and report."""

from defect_mf_flows.results.campaign import CampaignResults
from defect_mf_flows.results.export import export_doped, export_extxyz
from defect_mf_flows.results.records import Records
from defect_mf_flows.results.selection import ANY, INDEXES, Selection
from defect_mf_flows.results.writing import results_json, write_results

__all__ = [
    "ANY",
    "INDEXES",
    "CampaignResults",
    "Records",
    "Selection",
    "export_doped",
    "export_extxyz",
    "results_json",
    "write_results",
]
