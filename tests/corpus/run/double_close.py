# `os.close` of a number that the socket object has closed already.
#
# run:
# expect: double-close error fd=3 @open @first @second
import os
import socket

connection = socket.socket()  # @open
number = connection.fileno()
connection.close()  # @first
try:
    os.close(number)  # @second
except OSError:
    pass
