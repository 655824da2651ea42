"""MACE: data, training in a subprocess, and the trained potential. Heavy imports are lazy."""
