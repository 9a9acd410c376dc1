"""`refavs train` with FSDP on a CPU, which Accelerate turns on for accelerators alone: for
`test_sharding.py`, as the module that torchrun runs."""

import os
import sys

from accelerate import state
from accelerate.utils import DistributedType

from modeling_refavs.cli import main


begin = state.AcceleratorState.__init__


def begin_sharded(self: state.AcceleratorState, *args, fsdp_plugin=None, **kwargs) -> None:
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    plugin = fsdp_plugin or self._shared_state.get("fsdp_plugin")
    if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin


if __name__ == "__main__":
    state.AcceleratorState.__init__ = begin_sharded
    status = main(["train", *sys.argv[1:]])
    sys.stdout.flush()
    sys.stderr.flush()
    # The interpreter's own end would be aborted now and then, where a thread of gloo lets go of
    # Python's objects just then.
    os._exit(status)
