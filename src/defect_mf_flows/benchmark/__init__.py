"""Benchmarks of the learning on labels that this machine computes: commands print the tables."""
