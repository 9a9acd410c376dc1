"""Video and sound files in, overlays and contact sheets out (PyAV and Pillow)."""
