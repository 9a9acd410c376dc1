"""To and from the Hub: checkpoints of others in."""
