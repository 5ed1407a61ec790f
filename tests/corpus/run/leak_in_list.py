# Files that stay open, because a list keeps them until the end of the process.
#
# run:
# expect: leak warning x4 @open
import os

kept = []


def keep():
    kept.append(os.open("/dev/null", os.O_RDONLY))  # @open


for _ in range(4):
    keep()
