"""N-acc and T-acc as an `evaluate` module: a folder that is published alone."""
