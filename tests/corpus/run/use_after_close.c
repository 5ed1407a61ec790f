/* Four kinds of calls on a number that was closed and is not in use again.
 *
 * run: --check-uses
 * expect: use-after-close error fd=3 @open @close @write
 * expect: use-after-close error fd=3 @open @close @read
 * expect: use-after-close error fd=3 @open @close @fstat
 * expect: use-after-close error fd=3 @open @close @epoll
 * run: --quarantine
 * expect: use-after-close error fd=3 @open @close @write
 * expect: use-after-close error fd=3 @open @close @read
 * expect: use-after-close error fd=3 @open @close @fstat
 * expect: use-after-close error fd=3 @open @close @epoll
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
