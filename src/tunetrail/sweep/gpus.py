"""This machine's GPUs -> some of them for one job at a time, by the environment variable that chooses GPUs.

Only for jobs that share a machine with each other; on a cluster the scheduler assigns GPUs.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.checkout import locks

_SECONDS_BETWEEN_TRIES = 2.0


def visible() -> tuple[str, list[str]]:
    """Return the variable that chooses GPUs, and the numbers (or names) of those that this process may use."""
    import torch

    variable = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    if variable in os.environ:
        devices = map(str.strip, os.environ[variable].split(","))
        return variable, [device for device in devices if device not in ("", "-1")]
    return variable, [str(number) for number in range(torch.cuda.device_count())]


@contextlib.contextmanager
def reserve(accelerate: dict[str, Any], folder: Path) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Reserve as many GPUs as the params' section `accelerate` asks for; none on a machine without GPUs, where the tools use
    the CPU. Yields what `lock` yields.

    Raises:
        UserError: the machine has fewer.
    """
    variable, devices = ("", []) if accelerate.get("cpu") else visible()
    if not devices:
        yield {}, []
        return
    with lock(accelerate.get("num_processes", 1), variable, devices, folder) as reserved:
        yield reserved


@contextlib.contextmanager
def lock(count: int, variable: str, devices: list[str], folder: Path) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Wait until `count` of `devices` are free and reserve them while the body runs.

    Yields the environment that names them, and the file descriptors of their locks. Each is a lock on a file in `folder`,
    which is released when the last process that has it open ends, for whatever reason.

    Raises:
        UserError: there are fewer than `count`.
    """
    if count > len(devices):
        raise UserError(
            f"each job needs accelerate.num_processes={count} GPUs, and this machine has {len(devices)} ({variable}). "
            f"Set accelerate.num_processes to {len(devices)} or less."
        )
    while True:
        with contextlib.ExitStack() as stack:
            free: dict[str, int] = {}
            for device in devices:
                lock_fd = stack.enter_context(locks.try_lock(folder / f"{socket.gethostname()}-{device}"))
                if lock_fd is not None:
                    free[device] = lock_fd
                if len(free) == count:
                    yield {variable: ",".join(free)}, list(free.values())
                    return
        time.sleep(_SECONDS_BETWEEN_TRIES)
