"""Flows: the campaign from host to results."""
