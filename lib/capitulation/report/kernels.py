"""How a notebook gets its kernel: forked from the warm process where that is safe, else an ordinary one.

Both kinds talk over sockets in a private folder (IPC, never TCP), use this Python whatever kernels the user has
installed, ignore the user's IPython start-up files, and stop at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from capitulation.report.zygote import SOCKET_NAME, die_with_parent

WARM, PLAIN = "capitulation-warm", "capitulation-plain"
POLL_SECONDS = 0.02
LAUNCHER = ["-m", "ipykernel_launcher"]
KERNEL_ARGUMENTS = ["-f", "{connection_file}", "--IPKernelApp.exec_PYTHONSTARTUP=False"]


class ForkedProcess:
    """A kernel that the warm process forked, as `jupyter_client` expects a process to look.

    The kernel is a child of the warm process, which buries it only after `connection` is closed; until then its number
    cannot belong to another process.
    """

    stdin = stdout = stderr = None
    returncode: int | None = None

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection, self.pid = connection, pid
        self.handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it lives."""
        if self.returncode is None and select.select([self.handle], [], [], 0)[0]:
            self.release()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        if self.returncode is None and not select.select([self.handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        self.release()
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def release(self) -> None:
        """Let the warm process bury it."""
        if self.returncode is None:
            self.returncode = -signal.SIGKILL
            self.connection.close()
            os.close(self.handle)


class PlainProvisioner(LocalProvisioner):
    """A new Python per kernel; on Linux it dies with its parent."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        if sys.platform == "linux":
            parent = os.getpid()
            kwargs["preexec_fn"] = lambda: die_with_parent(parent)
        return await super().launch_kernel(cmd, **kwargs)


class WarmProvisioner(PlainProvisioner):
    """Asks the warm process for a kernel; starts a new Python only if that process is gone."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Fork a kernel that reads the manager's connection file."""
        request = {
            "cwd": str(kwargs.get("cwd") or Path.cwd()),
            "env": dict(kwargs["env"]),
            "arguments": cmd[1 + len(LAUNCHER) :],
        }
        try:
            self.process = ask_zygote(Path(os.environ["CAPITULATION_ZYGOTE"]), request)
        except (OSError, ValueError):
            return await super().launch_kernel(cmd, **kwargs)
        self.pid, self.pgid = self.process.pid, self.process.pid
        return self.connection_info

    async def wait(self) -> int | None:
        """As the base class, but looking more often, because a killed kernel is gone within a millisecond."""
        while self.process and self.process.poll() is None:
            await asyncio.sleep(POLL_SECONDS)
        self.process = None
        return 0


def ask_zygote(folder: Path, request: dict[str, Any]) -> ForkedProcess:
    """A new kernel from the warm process that serves in `folder`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(folder / SOCKET_NAME))
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = connection.makefile("r").readline()
        return ForkedProcess(connection, int(answer))
    except BaseException:
        connection.close()
        raise


class PrivateKernelManager(AsyncKernelManager):
    """Kernels of this very Python, with their sockets in a folder of their own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        folder = Path(os.environ["CAPITULATION_KERNEL_FOLDER"])
        self.transport = "ipc"
        self.ip = str(folder / "s")
        self.connection_file = str(folder / "kernel.json")

    @property
    def kernel_spec(self) -> KernelSpec:
        """The `python3` kernel, whatever kernels the user has installed under that name."""
        argv = [sys.executable, *LAUNCHER, *KERNEL_ARGUMENTS]
        warm = "CAPITULATION_ZYGOTE" in os.environ
        metadata = {"kernel_provisioner": {"provisioner_name": WARM if warm else PLAIN}}
        return KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python", metadata=metadata)


def register_provisioners() -> None:
    """Make both provisioners known to `jupyter_client`, without an installed entry point."""
    known = KernelProvisionerFactory.instance().provisioners
    for name, kind in ((WARM, WarmProvisioner), (PLAIN, PlainProvisioner)):
        known[name] = EntryPoint(name, f"{__name__}:{kind.__name__}", KernelProvisionerFactory.GROUP_NAME)


def kernel_environment(run_folder: Path, private: Path) -> dict[str, str]:
    """Environment of a kernel: the user's, without secrets, with one thread per numeric library and its own folders."""
    kept = {name: value for name, value in os.environ.items() if not _secret(name)}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **kept,
        **threads,
        "CAPITULATION_RUN_FOLDER": str(run_folder),
        "IPYTHONDIR": str(private / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _secret(name: str) -> bool:
    upper = name.upper()
    return any(word in upper for word in ("KEY", "TOKEN", "SECRET", "PASSWORD"))


class WarmProcess:
    """The zygote as the driver sees it: started early, ended by closing its standard input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = kernel_environment(self.folder, self.folder)
        command = [sys.executable, "-P", "-m", "capitulation.report.zygote", str(self.folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
        )

    def close(self) -> None:
        """End it and every kernel it forked."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def fork_is_safe() -> bool:
    """Whether kernels may be forked here: Linux with process handles; `CAPITULATION_FORK=0` says no."""
    wanted = os.environ.get("CAPITULATION_FORK", "1") != "0"
    return wanted and sys.platform == "linux" and hasattr(os, "pidfd_open")
