"""Charged point defects at hybrid accuracy from multi-fidelity machine learning."""
