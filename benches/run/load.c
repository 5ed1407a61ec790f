/* A load generator for the loopback interface: the time of an exchange, with a thread per connection.
 *
 *     load PORT SECONDS CONNECTIONS MODE [PATH]        prints microseconds per exchange, all threads together
 *
 * | mode  | an exchange                                              |
 * |-------|----------------------------------------------------------|
 * | echo  | a round trip of 64 bytes                                 |
 * | churn | a connection with one such round trip                    |
 * | keep  | an HTTP request on a connection that is kept             |
 * | close | a connection with one HTTP request, "Connection: close"  |
 *
 * The first fifth of the time is not measured. Each connection has at least two exchanges that are, however
 * long they take; one without a reply for 30 s is an error. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 64
#define THREADS_MAX 64

static struct sockaddr_in address = {.sin_family = AF_INET};
static char request[512];
static size_t request_length = MESSAGE;
static int is_http, keeps;
static double start, begin, end;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int connected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval limit = {.tv_sec = 30};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("connect");
    return fd;
}

/* Reads and drops `length` bytes. */
static void drop(int fd, size_t length)
{
    char text[4096];
    while (length > 0) {
        ssize_t got = recv(fd, text, length < sizeof text ? length : sizeof text, 0);
        if (got <= 0)
            fail("recv");
        length -= got;
    }
}

/* Reads an HTTP reply: to the end of the stream, or as long as its Content-Length says. */
static void drop_reply(int fd)
{
    char text[4096];
    size_t length = 0;
    char *body = NULL;
    while (!body) {
        ssize_t got = recv(fd, text + length, sizeof text - 1 - length, 0);
        if (got <= 0)
            fail("recv");
        length += got;
        text[length] = 0;
        body = strstr(text, "\r\n\r\n");
    }
    if (strncmp(text, "HTTP/1.1 200", 12)) {
        fprintf(stderr, "unexpected reply: %.60s\n", text);
        exit(1);
    }
    if (!keeps) {
        while (recv(fd, text, sizeof text, 0) > 0) {}
        return;
    }
    char *field = strcasestr(text, "Content-Length:");
    if (!field || field > body)
        fail("a reply without Content-Length");
    size_t whole = body + 4 - text + atol(field + 15);
    if (length < whole)
        drop(fd, whole - length);
}

static void *exchanges(void *unused)
{
    (void)unused;
    long count = 0;
    int fd = keeps ? connected() : -1;
    for (double time = start; time < end || count < 2; time = now()) {
        if (!keeps)
            fd = connected();
        if (send(fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length)
            fail("send");
        if (is_http)
            drop_reply(fd);
        else
            drop(fd, request_length);
        if (!keeps)
            close(fd);
        count += time >= begin;
    }
    if (keeps)
        close(fd);
    return (void *)count;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: load PORT SECONDS CONNECTIONS echo|churn|keep|close [PATH]\n");
        return 2;
    }
    address.sin_port = htons(atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int threads = atoi(argv[3]);
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    is_http = argc > 5;
    keeps = !strcmp(argv[4], "echo") || !strcmp(argv[4], "keep");
    memset(request, '.', MESSAGE);
    if (is_http)
        request_length = snprintf(request, sizeof request,
                                  "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n",
                                  argv[5], keeps ? "keep-alive" : "close");
    start = now();
    end = start + atof(argv[2]);
    begin = start + (end - start) / 5;
    pthread_t ids[THREADS_MAX];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, exchanges, NULL))
            fail("pthread_create");
    long count = 0;
    for (int i = 0; i < threads; i++) {
        void *own;
        pthread_join(ids[i], &own);
        count += (long)own;
    }
    printf("%.4f\n", (now() - begin) * 1e6 / count);
    return 0;
}
