/* Four kinds of calls on a number that was closed and is not in use again. `fstat` and `epoll_ctl` are notes:
 * programs find out by them whether a number is open.
 *
 * run: --check-uses
 * expect: use-after-close error fd=3 @open @close @write
 * expect: use-after-close error fd=3 @open @close @read
 * expect: not-open note fd=3 @open @close @fstat
 * expect: not-open note fd=3 @open @close @epoll
 * run: --quarantine
 * expect: use-after-close error @open @close @write
 * expect: use-after-close error @open @close @read
 * expect: not-open note @open @close @fstat
 * expect: not-open note @open @close @epoll
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    char byte = 0;
    struct stat status;
    int poller = -1, file = open("data", O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* @open */
    poller = epoll_create1(EPOLL_CLOEXEC);
    close(file); /* @close */
    struct epoll_event event = {.events = EPOLLIN};
    int failed = 0;
    failed += write(file, &byte, 1) < 0 && errno == EBADF; /* @write */
    failed += read(file, &byte, 1) < 0 && errno == EBADF; /* @read */
    failed += fstat(file, &status) < 0 && errno == EBADF; /* @fstat */
    failed += epoll_ctl(poller, EPOLL_CTL_ADD, file, &event) < 0 && errno == EBADF; /* @epoll */
    close(poller);
    return failed == 4 ? 0 : 1;
}
