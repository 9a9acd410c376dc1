"""Masks made visible: overlays, contact sheets, plots."""
