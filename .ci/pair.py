"""Two daemons with a share each on loopback, for the scripts beside this one,
and what the kernel says of them: nothing here asks the daemons for a figure that
they are measured by."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = ("RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --profile deploy "
         "--target x86_64-unknown-linux-gnu -p left --bin left")
PROGRAM = TOP / "target/x86_64-unknown-linux-gnu/deploy/left"
TICKS = os.sysconf("SC_CLK_TCK")


def add_arguments(parser):
    parser.add_argument("--program", type=Path, default=PROGRAM)
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="where the shares are made, and removed again")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Side:
    """One side. Its daemon is killed by its own process id."""

    def __init__(self, program, folder, name):
        self.program, self.name, self.port = program, name, free_port()
        self.share = folder / name
        self.share.mkdir()
        self.log, self.events = folder / f"{name}.log", folder / f"{name}.events"
        self.child = self.peer = None

    def start(self):
        """When it was started, in seconds since 1970."""
        command = [self.program, "--insecure", "--ip", f"127.0.0.1:{self.peer.port}",
                   "--listen", f"127.0.0.1:{self.port}", "--share", self.share, "--events", self.events]
        began = time.time()
        self.child = subprocess.Popen(command, stderr=self.log.open("a"), stdin=subprocess.DEVNULL)
        return began

    def stop(self, how=signal.SIGTERM):
        if self.child:
            self.child.send_signal(how)
            self.child.wait()
            self.child = None

    def status(self):
        if self.child.poll() is not None:
            sys.exit(f"{self.name} has ended: {self.log.read_text()[-2000:]}")
        told = subprocess.run([self.program, "status", "--json", "--share", self.share], capture_output=True).stdout
        try:
            return json.loads(told)
        except ValueError:
            return {}

    def is_in_sync(self, entries):
        status = self.status()
        return (status.get("pid") == self.child.pid and status.get("state") == "synchronization"
                and status["wanted"] == 0 and status["entries"] >= entries)

    def confirm(self):
        """Says that what is held back is meant. The set grows while the peer is removing."""
        held = self.status().get("held")
        if held:
            subprocess.run([self.program, "confirm", "--share", self.share, held["set"]], capture_output=True)

    def state_since(self, began, word):
        """Seconds from a start until the state was this one."""
        for line in self.events.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "state" and event["state"] == word and event["time_ms"] / 1000 >= began - 0.002:
                return event["time_ms"] / 1000 - began
        return float("nan")

    def memory(self):
        """KiB by the kernel's names for them."""
        text = Path(f"/proc/{self.child.pid}/status").read_text()
        return {key: int(kib) for key, kib in re.findall(r"^(VmHWM|VmRSS|RssAnon|RssFile):\s+(\d+) kB", text, re.M)}

    def cpu(self):
        """Processor seconds, of user and system together."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Pair:
    """Both sides; everything of them is removed at the end."""

    def __init__(self, asked):
        if not asked.program.exists():
            sys.exit(f"{asked.program} is not built: {BUILD}")
        # So that everything is removed then as well.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was told to end"))
        self.folder = Path(tempfile.mkdtemp(prefix="left-pair-", dir=asked.dir))
        self.a, self.b = (Side(asked.program.resolve(), self.folder, name) for name in "ab")
        self.a.peer, self.b.peer = self.b, self.a
        self.sides = (self.a, self.b)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for side in self.sides:
            side.stop(signal.SIGKILL)
        shutil.rmtree(self.folder)

    def start(self):
        return [side.start() for side in self.sides]

    def stop(self, how=signal.SIGTERM):
        for side in self.sides:
            side.stop(how)

    def wait(self, is_so, hours=2):
        end = time.monotonic() + hours * 3600
        while not is_so():
            if time.monotonic() > end:
                sys.exit(f"waited in vain: {[side.status() for side in self.sides]}")
            time.sleep(0.05)

    def wait_in_sync(self, entries):
        """Waits until both say that they have as many entries, and nothing to do."""
        self.wait(lambda: all(side.is_in_sync(entries) for side in self.sides))

    def wire(self):
        """Each end of each connection between the two, and what it has sent:
        (bytes, segments with data), as the kernel counts them."""
        ports = f"( sport = :{self.a.port} or dport = :{self.a.port} or sport = :{self.b.port} or dport = :{self.b.port} )"
        text = subprocess.run(["ss", "-tinOH", "state", "established", ports], capture_output=True, text=True, check=True).stdout
        ends = {}
        for line in text.splitlines():
            fields = line.split()
            figure = lambda name: int((re.search(rf"\b{name}:(\d+)", line) or [0, 0])[1])
            ends[(fields[2], fields[3])] = (figure("bytes_acked"), figure("data_segs_out"))
        return ends


def make_tree(top, files, size, per_folder):
    """Files of as many bytes, each with its own content, below `top`; how many entries that is."""
    folders = 0
    for number in range(files):
        if number % per_folder == 0:
            folder = os.path.join(top, f"d{number // per_folder:05}")
            os.makedirs(folder)
            folders += 1
        content = (b"%d " % number * size)[:size]
        handle = os.open(f"{folder}/f{number:07}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
        if content:
            os.write(handle, content)
        os.close(handle)
    return files + folders
