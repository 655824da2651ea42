"""Campaigns on one machine: a private server, workers, progress."""
