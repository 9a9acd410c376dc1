"""What several folders need: files that appear whole, how processes end, Markdown tables."""
