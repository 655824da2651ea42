"""Science with no workflow and no torch."""
