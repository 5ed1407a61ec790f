# The master of `pty.fork()` is inherited by every program that is started later (python/cpython#139184).
#
# run:
# expect: exec-leak error fd=3 @fork
import os
import pty

child, master = pty.fork()  # @fork
if child == 0:
    os.execv("/bin/cat", ["cat"])
os.system("true")
os.close(master)
os.waitpid(child, 0)
