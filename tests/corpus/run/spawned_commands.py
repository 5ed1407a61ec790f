# `subprocess` with pipes, with `pass_fds` and with threads: everything is closed or passed on purpose.
#
# run:
# expect: nothing
import os
import subprocess
import threading


def run():
    for _ in range(5):
        assert subprocess.run(["cat"], input=b"text", capture_output=True).stdout == b"text"


threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ours, passed = os.pipe()
command = f"echo text >&{passed}"
subprocess.run(["sh", "-c", command], pass_fds=[passed], check=True)
os.close(passed)
assert os.read(ours, 10) == b"text\n"
os.close(ours)
