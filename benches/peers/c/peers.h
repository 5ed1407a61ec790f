/* The two servers in C. Each serves a listening socket and never returns. */
#ifndef PEERS_H
#define PEERS_H

#include <stddef.h>

/* A thread per connection, of POSIX threads. */
_Noreturn void peer_threads(int listener, size_t buffer_bytes);

/* One thread and epoll(7), level-triggered. */
_Noreturn void peer_epoll(int listener, size_t buffer_bytes);

#endif
