"""The arguments of each `refavs` command, by room; what a command does is imported when it runs."""

PRECISIONS = ("float32", "bf16", "fp16", "int8")
