"""What several rooms need: files that appear whole, Markdown tables."""
