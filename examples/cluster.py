"""Starts the processes of a `tf.distribute` cluster on this machine, and sees that they end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack

TRIES = 3
PORT_TAKEN = "Could not start gRPC server"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. Somebody else may still take one before it is used."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def run(
    command: Sequence[str],
    jobs: Mapping[str, Sequence[Mapping[str, str]]],
    waits_for: str,
    seconds: float = 120,
) -> None:
    """Runs a command once per task of the cluster; TF_CONFIG tells each which one it is.

    Returns when all tasks of one job have ended well; then, and if anything fails, the others are
    killed.

    Args:
        command: what every task runs.
        jobs: the tasks of each job: the environment variables each has beside this process's.
        waits_for: the job that ends by itself; servers, for one, never do.
        seconds: how long the tasks may take.

    Raises:
        RuntimeError: a task failed or took longer; the message ends with what it printed.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            return _run(command, jobs, waits_for, seconds)
        except RuntimeError as error:
            if PORT_TAKEN not in str(error) or not tries_left:
                raise


def _run(command, jobs, waits_for, seconds):
    ports = iter(free_ports(sum(map(len, jobs.values()))))
    cluster = {job: [f"127.0.0.1:{next(ports)}" for _ in tasks] for job, tasks in jobs.items()}
    processes = []
    try:
        for job, tasks in jobs.items():
            for index, variables in enumerate(tasks):
                config = {"cluster": cluster, "task": {"type": job, "index": index}}
                environment = os.environ | variables | {"TF_CONFIG": json.dumps(config)}
                environment["CUDA_VISIBLE_DEVICES"] = ""  # processes cannot share a GPU's memory
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                processes.append((f"{job} {index}", process))
        with ThreadPoolExecutor(len(processes)) as pool:
            ends = {pool.submit(_end, *task, seconds): task[0] for task in processes}
            try:
                waited = len(jobs[waits_for])
                for end in as_completed(ends):
                    end.result()
                    waited -= ends[end].startswith(f"{waits_for} ")
                    if not waited:
                        return
            finally:
                _kill(processes)
    finally:
        _kill(processes)


def _kill(processes):
    for _, process in processes:
        process.kill()


def _end(name, process, seconds):
    try:
        printed, _ = process.communicate(timeout=seconds)
        how = f"ended with {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
        how = f"took longer than {seconds} s"
    if process.returncode:
        raise RuntimeError(f"{name} {how}:\n{printed[-4000:]}")
