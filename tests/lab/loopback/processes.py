"""What still runs on this machine."""

import os
from pathlib import Path


def processes_of(folder):
    """Processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command and int(entry.name) != os.getpid():
                found.append(command.replace("\0", " "))
    return found
