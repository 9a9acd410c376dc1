"""F of Ref-AVS as an `evaluate` module: a folder that is published alone."""
