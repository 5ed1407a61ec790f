/* A log, an epoll instance and a listener that a server has open until it ends: notes.
 *
 * run:
 * expect: open-at-exit note @log
 * expect: open-at-exit note @epoll
 * expect: open-at-exit note @listener
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

int main(void) {
    int log = open("log", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* @log */
    int poller = epoll_create1(EPOLL_CLOEXEC); /* @epoll */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* @listener */
    struct epoll_event event = {.events = EPOLLIN};
    if (log < 0 || listen(listener, 1) != 0)
        return 1;
    return epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
}
