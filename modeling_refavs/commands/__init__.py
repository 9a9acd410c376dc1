"""The arguments of each `refavs` command, a file each; what a command does is imported when it
runs."""

PRECISIONS = ("float32", "bf16", "fp16", "int8")
