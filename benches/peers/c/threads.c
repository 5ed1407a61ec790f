/* A thread per connection: accept, read, write, as it has been done for thirty years.
 *
 * The buffer is on the heap and the stack small, as with the peers in Rust. */
#define _GNU_SOURCE
#include "peers.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    STACK_BYTES = 64 * 1024,
    /* Out of descriptors or memory: until others have closed theirs. */
    PAUSE_US = 10 * 1000,
};

static size_t bytes;

/* 0 when the peer is gone. */
static int send_all(int fd, const char *from, size_t left)
{
    while (left > 0) {
        ssize_t sent = send(fd, from, left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return 0;
        from += sent;
        left -= (size_t)sent;
    }
    return 1;
}

static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char *buffer = malloc(bytes);
    while (buffer) {
        ssize_t got = recv(fd, buffer, bytes, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || !send_all(fd, buffer, (size_t)got))
            break;
    }
    free(buffer);
    close(fd);
    return NULL;
}

_Noreturn void peer_threads(int listener, size_t buffer_bytes)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bytes = buffer_bytes;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EINTR && errno != ECONNABORTED)
                usleep(PAUSE_US);
            continue;
        }
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}
