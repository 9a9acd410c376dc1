"""Ref-AVS Bench and its synthetic counterpart: read, checked, counted, exported."""
