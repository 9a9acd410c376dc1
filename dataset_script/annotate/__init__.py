"""`refavs annotate`: objects, masks, sounding intervals and sentences of a tree's clips, made by
hand with the help of models (docs/annotate.md)."""
