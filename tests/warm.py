"""Processes that begin with TensorFlow imported: forks of one that has done nothing else.

The import is most of what a short program costs: 4 s of processor time, and a fork 0.1. Each is a
process of its own all the same, with the arguments, environment, folder and files that it is given:
`[*warm.python(), "-c", program]` in the place of `[sys.executable, "-c", program]`. Not for a
program that is about how a process starts or ends, or that sets what TensorFlow reads as it is
imported (TF_CPP_MIN_LOG_LEVEL, KERAS_BACKEND).

As a program: `warm.py serve FD` forks for who connects to that socket; `warm.py NAME ...` connects,
and ends as its fork does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys


def python():
    """The command that starts a program as `python` would."""
    global _name
    if _name is None:
        _name = _serve_here()
    # Isolated and without site packages: what is started by it has its own.
    return [sys.executable, "-IS", __file__, _name]


_name = None  # of the socket of this process's server


def _serve_here():
    import atexit
    import subprocess

    name = f"shared-dense-tests-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")  # a name without a file
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, "serve", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
    atexit.register(server.communicate)  # closes its standard input, and waits
    return name


def ask(name, *arguments):
    """Has a fork run the arguments, and ends as it ends; a fork whose client is gone is killed."""
    wanted = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{name}")
        socket.send_fds(connection, [b"-"], [0, 1, 2])
        connection.sendall(json.dumps(wanted).encode() + b"\n")
        status = connection.makefile().readline()
    if not status:
        sys.exit("warm.py: the server is gone")
    if int(status) < 0:
        signal.signal(-int(status), signal.SIG_DFL)
        os.kill(os.getpid(), -int(status))
    sys.exit(int(status))


def serve(descriptor):
    """Forks for each connection, until the standard input ends: who wanted the server is gone."""
    import selectors
    import warnings

    listener = socket.socket(fileno=descriptor)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    base = [path for path in sys.path[1:] if path not in given]

    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    woken, wakes = socket.socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    clients = {}  # by the process of their fork
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        wanted = True
        while wanted:
            for key, _ in selector.select():
                if key.fileobj == 0:
                    wanted = False
                elif key.fileobj is listener:
                    connection, _ = listener.accept()
                    process = _fork(connection, [listener, woken, wakes, *clients.values()], base)
                    if process:
                        clients[process] = connection
                        selector.register(connection, selectors.EVENT_READ, process)
                elif key.fileobj is not woken:  # a client says no more: it is gone
                    os.kill(key.data, signal.SIGKILL)
                    selector.unregister(key.fileobj)
                else:
                    woken.recv(64)
            while clients:
                process, status = os.waitpid(-1, os.WNOHANG)
                if not process:
                    break
                with clients.pop(process) as connection, contextlib.suppress(OSError):
                    if connection in selector.get_map():
                        selector.unregister(connection)
                        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    for process in clients:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _fork(connection, others, base):
    """The process that runs what this client asks for; 0 where it is gone already."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as said:
        line = said.readline()
    process = os.fork() if line else 0
    if process or not line:
        for file in files:
            os.close(file)
        return process
    wanted = json.loads(line)
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (connection, *others):
            each.close()
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        os.chdir(wanted["folder"])
        sys.path[:] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        sys.path += base
        status = _run(wanted["arguments"])
    finally:
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or no file any more
                file.flush()
        os._exit(status)  # the exit status is that of the program, not of the server's end


def _run(arguments):
    """Runs a program as Python would; its exit status."""
    import runpy
    import traceback
    import warnings

    while arguments[0] == "-W":
        warnings.simplefilter(arguments[1])
        arguments = arguments[2:]
    what, *rest = arguments
    try:
        if what in ("-c", "-m"):
            sys.argv = [what, *rest[1:]]
            sys.path.insert(0, "" if what == "-c" else os.getcwd())
        if what == "-c":
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif what == "-m":
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, os.path.dirname(os.path.abspath(what)))
            runpy.run_path(what, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        ask(*sys.argv[1:])
