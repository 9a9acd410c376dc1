"""How well a model does: J, F and S, and the tables of the paper."""
