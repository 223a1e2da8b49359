"""Runs a command so that all of it ends when its adapter does, even if that was killed. Started as a script, by path.

Arguments: a pipe that the adapter holds open while it lives, the folder the two exchange images in, and the command.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Start the command in a session of its own; kill that session and remove the folder at the end."""
    alive, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the adapter decides
    try:
        process = subprocess.Popen(command, start_new_session=True)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)  # the pipes are the command's alone: when it closes them the adapter must see it
    os.dup2(nowhere, 1)

    def end() -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    def watch() -> None:
        os.read(alive, 1)
        end()

    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    end()  # what it started and left behind
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
