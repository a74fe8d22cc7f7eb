"""A warm process that forks kernels: pandas, matplotlib and statsmodels are imported once, not once per notebook.

It serves requests on a private socket. Each request holds the arguments of a kernel, a folder and an environment; the
answer is the process id of a new IPython kernel. A kernel lives as long as the connection it was asked for on: when
the client closes it or dies, the kernel and all its children are killed. When the driver closes the control pipe
(also by dying), every kernel is killed, the private folder is removed and the zygote ends. So nothing is orphaned.

Between requests it goes on importing, one module at a time, so that the first kernel need not wait for the last module.
Only Linux: the process has one thread whenever it forks.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
from pathlib import Path

from capitulation.report.lean import without_unused_grammar

UNUSED_IN_KERNELS = "debugpy"
FIRST = (
    *("ipykernel.kernelapp", "ipykernel.ipkernel", "IPython.core.completerlib", "IPython.core.oinspect"),
    *(
        "IPython.core.debugger",
        "IPython.extensions.storemagic",
        "sqlite3",
        "tornado.platform.asyncio",
        "tornado.queues",
    ),
    *("pandas", "capitulation.session"),
)
THEN = (
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "matplotlib_inline.backend_inline",
    "matplotlib.dates",
    "PIL.PngImagePlugin",
    "capitulation.data.market",
    "capitulation.plots",
    "scipy.stats",
    "statsmodels.api",
    "statsmodels.tsa.api",
    "arch.bootstrap",
    "seaborn",
    *(f"capitulation.{name}" for name in ("study.market_study", "study.findings", "study.family", "study.causality")),
    *(
        f"capitulation.plots.{name}"
        for name in ("market", "episodes", "returns", "forest", "paths", "miners", "network")
    ),
    *(f"capitulation.plots.{name}" for name in ("rigs", "backtest", "robustness", "claims", "present", "trust")),
    "capitulation.study.claims",
)
SOCKET_NAME = "zygote"
MAX_REQUEST = 1_000_000
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when process `parent`, its parent, ends."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Zygote:
    """The serving loop: a listening socket, a control pipe, and one connection per living kernel."""

    def __init__(self, folder: Path, control: int) -> None:
        self.folder, self.control = folder, control
        self.kernels: dict[socket.socket, int] = {}
        self.waiting = list(THEN)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(folder / SOCKET_NAME))
        self.listener.listen(64)

    def serve(self) -> None:
        """Until the control pipe closes: answer requests, bury kernels, import what is left to import."""
        while True:
            ready = select.select([self.control, self.listener, *self.kernels], [], [], 0 if self.waiting else None)[0]
            if self.control in ready:
                return
            for connection in ready:
                if connection is self.listener:
                    self.answer(self.listener.accept()[0])
                else:
                    self.bury(connection)
            if not ready and self.waiting:
                _try_import(self.waiting.pop(0))

    def answer(self, connection: socket.socket) -> None:
        """Fork a kernel for one request; its process id goes back."""
        request = json.loads(_receive_line(connection))
        gc.collect()
        gc.freeze()
        zygote = os.getpid()
        child = os.fork()
        if child == 0:
            self.close_inherited(connection)
            become_kernel(request, zygote)
        self.kernels[connection] = child
        with contextlib.suppress(OSError):
            connection.sendall(f"{child}\n".encode())

    def bury(self, connection: socket.socket) -> None:
        """The client is gone or done: kill its kernel with all that it started."""
        child = self.kernels.pop(connection)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        connection.close()

    def close_inherited(self, own: socket.socket) -> None:
        """In a new kernel: keep no other kernel's connection open, nor the sockets of the zygote."""
        for connection in [self.listener, own, *self.kernels]:
            connection.close()
        os.close(self.control)

    def close(self) -> None:
        """Kill every kernel, remove the private folder."""
        for connection in list(self.kernels):
            self.bury(connection)
        shutil.rmtree(self.folder, ignore_errors=True)


def become_kernel(request: dict, zygote: int) -> None:
    """Turn a freshly forked process into an IPython kernel; never returns."""
    code = 1
    try:
        die_with_parent(zygote)
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        _silence()
        from ipykernel.kernelapp import IPKernelApp

        IPKernelApp.launch_instance(argv=request["arguments"])
        code = 0
    finally:
        os._exit(code)


def _silence() -> None:
    """What a kernel prints outside a cell goes nowhere, as it has no terminal."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def _receive_line(connection: socket.socket) -> str:
    received = b""
    while not received.endswith(b"\n") and len(received) < MAX_REQUEST:
        part = connection.recv(65536)
        if not part:
            break
        received += part
    return received.decode()


def _try_import(name: str) -> None:
    """A module that cannot be imported here will say so in the notebook that needs it."""
    with contextlib.suppress(Exception), without_unused_grammar():
        importlib.import_module(name)


def main(folder: str) -> None:
    """Serve from the private `folder` until standard input closes, as it does when the driver ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.modules[UNUSED_IN_KERNELS] = None  # type: ignore[assignment]  # a report is not debugged; saves 0.1 s a kernel
    zygote = Zygote(Path(folder), sys.stdin.fileno())
    for name in FIRST:
        _try_import(name)
    try:
        zygote.serve()
    finally:
        zygote.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
