"""A machine's GPUs -> some of them for one job at a time, by the variable that the vendor's runtime reads.

Only for jobs that share a machine with each other; a cluster's scheduler hands out GPUs itself.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tunetrail import UserError
from tunetrail.checkout import locks

_SECONDS_BETWEEN_TRIES = 2.0


def here() -> tuple[str, list[str]]:
    """The variable by which GPUs are chosen, and the numbers of those that this process may use."""
    import torch

    variable = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    if variable in os.environ:
        return variable, [one for one in map(str.strip, os.environ[variable].split(",")) if one not in ("", "-1")]
    return variable, [str(number) for number in range(torch.cuda.device_count())]


@contextlib.contextmanager
def taken(count: int, variable: str, devices: list[str], folder: Path) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Wait until `count` of `devices` are free and hold them while the body runs.

    Yields the environment that names them, and the open files that are the holds: a hold is a lock on a file in `folder`, so
    it ends with the last process that has it, however that ends.

    Raises:
        UserError: there are fewer than `count`.
    """
    if count > len(devices):
        raise UserError(
            f"accelerate.num_processes={count} GPUs a job, and this machine has {len(devices)} ({variable}). Ask for fewer."
        )
    while True:
        with contextlib.ExitStack() as holds:
            free: dict[str, int] = {}
            for device in devices:
                lock_fd = holds.enter_context(locks.try_lock(folder / f"{socket.gethostname()}-{device}"))
                if lock_fd is not None:
                    free[device] = lock_fd
                if len(free) == count:
                    break
            if len(free) == count:
                yield {variable: ",".join(free)}, list(free.values())
                return
        time.sleep(_SECONDS_BETWEEN_TRIES)
