"""Calculations that somebody already has: found, recognised, compared and stored."""
