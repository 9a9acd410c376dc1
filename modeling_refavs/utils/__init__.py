"""What several folders need: files that appear whole, Markdown tables."""
