# A server with four processes that share a listener, and its clients in threads.
#
# run:
# expect: no-failure
import os
import signal
import socket
import threading

listener = socket.create_server(("127.0.0.1", 0), backlog=64)
workers = []
for _ in range(4):
    worker = os.fork()
    if worker == 0:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(100))
    workers.append(worker)


def ask():
    for _ in range(20):
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


clients = [threading.Thread(target=ask) for _ in range(4)]
for client in clients:
    client.start()
for client in clients:
    client.join()
for worker in workers:
    os.kill(worker, signal.SIGTERM)
    os.waitpid(worker, 0)
listener.close()
