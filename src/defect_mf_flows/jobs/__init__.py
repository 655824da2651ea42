"""Jobs and Makers, one module per step of the campaign."""
