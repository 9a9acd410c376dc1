"""The three pretrained parts that EEMC starts from, for a synthetic benchmark: what Swin, VGGish and RoBERTa are for Ref-AVS."""
