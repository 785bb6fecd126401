"""Figures with their evidence: image sizes, measured or estimated."""
