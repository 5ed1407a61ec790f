/* One thread and epoll, level-triggered. One buffer for all: what a peer does not take at once is
 * kept with its connection, which is then not read from until all of it is gone. */
#define _GNU_SOURCE
#include "peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 1024,
    /* Out of descriptors or memory: until others have closed theirs. */
    PAUSE_US = 10 * 1000,
};

struct connection {
    int fd;
    /* What waits to be sent; none while `left` is 0. */
    char *kept;
    size_t from, left;
};

static void end(struct connection *one)
{
    /* Closing takes it out of the epoll set, too. */
    close(one->fd);
    free(one->kept);
    free(one);
}

/* How much was sent without waiting; -1 when the peer is gone. */
static ssize_t send_some(int fd, const char *from, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t sent = send(fd, from + done, length - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? (ssize_t)done : -1;
        done += (size_t)sent;
    }
    return (ssize_t)done;
}

/* 0 when the connection is over. */
static int wait_for(int set, struct connection *one, uint32_t what)
{
    struct epoll_event event = { .events = what, .data.ptr = one };
    return epoll_ctl(set, EPOLL_CTL_MOD, one->fd, &event) == 0;
}

static int on_readable(int set, struct connection *one, char *buffer, size_t bytes)
{
    ssize_t got = recv(one->fd, buffer, bytes, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return 0;
    ssize_t sent = send_some(one->fd, buffer, (size_t)got);
    if (sent < 0)
        return 0;
    if (sent == got)
        return 1;
    one->from = 0;
    one->left = (size_t)(got - sent);
    one->kept = malloc(one->left);
    if (!one->kept)
        return 0;
    memcpy(one->kept, buffer + sent, one->left);
    return wait_for(set, one, EPOLLOUT);
}

static int on_writable(int set, struct connection *one)
{
    ssize_t sent = send_some(one->fd, one->kept + one->from, one->left);
    if (sent < 0)
        return 0;
    one->from += (size_t)sent;
    one->left -= (size_t)sent;
    if (one->left > 0)
        return 1;
    free(one->kept);
    one->kept = NULL;
    return wait_for(set, one, EPOLLIN);
}

static void on_connection(int set, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN)
            usleep(PAUSE_US);
        return;
    }
    struct connection *one = calloc(1, sizeof *one);
    if (!one) {
        close(fd);
        return;
    }
    one->fd = fd;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = one };
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0)
        end(one);
}

_Noreturn void peer_epoll(int listener, size_t buffer_bytes)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    char *buffer = malloc(buffer_bytes);
    struct epoll_event first = { .events = EPOLLIN, .data.ptr = NULL };
    if (set < 0 || !buffer || epoll_ctl(set, EPOLL_CTL_ADD, listener, &first) != 0)
        abort();
    for (;;) {
        static struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(set, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct connection *one = events[i].data.ptr;
            if (!one)
                on_connection(set, listener);
            else if (one->left > 0 ? !on_writable(set, one)
                                   : !on_readable(set, one, buffer, buffer_bytes))
                end(one);
        }
    }
}
