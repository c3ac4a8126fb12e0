"""Free ports and health checks, for the tests that start a server."""

import socket
import subprocess
import time


def free_port():
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def healthy(command, environment, running, patience):
    """Repeat a health check until it passes; return False once `running` is false or after `patience` seconds."""
    deadline = time.monotonic() + patience
    while running() and time.monotonic() < deadline:
        if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
            return True
        time.sleep(0.5)
    return False
