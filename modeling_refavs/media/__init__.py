"""Old names of `modeling_refavs.inference` and `modeling_refavs.video_refavs`, kept for one
release."""
