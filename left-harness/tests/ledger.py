#!/usr/bin/env python3
"""Lists what is left of a run on this machine; shares no code with the harness.

    ledger.py RUN_ID [FOLDER]...

Looks for processes that carry the run's id in their environment or on their command
line, or whose program lies below one of the folders, for the TCP ports on which they
listen, and for names with the id anywhere below the folders. Exit code 0 when there is nothing, 1 with a list when there is something.
"""

import os
import re
import sys

NAMES_MAX = 1_000_000


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def ancestors_and_self():
    pids, pid = set(), os.getpid()
    while pid > 0:
        pids.add(pid)
        stat = read(f"/proc/{pid}/stat")
        pid = int(stat.rpartition(b")")[2].split()[1]) if stat else 0
    return pids


def sockets_that_listen():
    ports = {}
    for table in ("tcp", "tcp6"):
        for line in read(f"/proc/net/{table}").splitlines()[1:]:
            fields = line.split()
            if fields[3] == b"0A":
                ports[fields[9].decode()] = int(fields[1].rpartition(b":")[2], 16)
    return ports


def ports_of(pid, listening):
    ports = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                socket = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
            except OSError:
                continue
            if socket and socket[1] in listening:
                ports.add(listening[socket[1]])
    except OSError:
        pass
    return sorted(ports)


def program_is_below(pid, folders):
    try:
        program = os.readlink(f"/proc/{pid}/exe".encode())
    except OSError:
        return False
    return any(program.startswith(folder + b"/") for folder in folders)


def processes(run, folders):
    variable = b"LEFT_HARNESS_RUN=" + run
    ours, listening = ancestors_and_self(), sockets_that_listen()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) in ours:
            continue
        command = read(f"/proc/{pid}/cmdline")
        bears_it = variable in read(f"/proc/{pid}/environ").split(b"\0") or run in command
        if bears_it or program_is_below(pid, folders):
            shown = command.replace(b"\0", b" ").decode("utf-8", "backslashreplace")[:200]
            yield f"process {pid}: {shown!r}, listens on {ports_of(pid, listening)}"


def names(run, folder):
    seen = 0
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            seen += 1
            if seen > NAMES_MAX:
                sys.exit(f"ledger.py: {folder} has too many names to look at")
            if run in name:
                yield f"name {os.path.join(place, name).decode('utf-8', 'backslashreplace')!r}"


def main():
    if len(sys.argv) < 2 or not sys.argv[1]:
        sys.exit(__doc__)
    run = os.fsencode(sys.argv[1])
    folders = [os.path.realpath(os.fsencode(folder)) for folder in sys.argv[2:]]
    left = list(processes(run, folders))
    for folder in sys.argv[2:]:
        left.extend(names(run, folder))
    for line in left:
        print(line)
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
