"""A model, a video and sentences in: masks, presence and exports out."""
