/* Two leaks of each kind of descriptor that has no path.
 *
 * run:
 * expect: leak warning x2 @memfd
 * expect: leak warning x2 @eventfd
 * expect: leak warning x2 @timerfd
 * expect: leak warning x2 @signalfd
 * expect: leak warning x2 @inotify
 * expect: leak warning x2 @pidfd
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    sigset_t signals;
    sigemptyset(&signals);
    for (int i = 0; i < 2; i++) {
        memfd_create("buffer", MFD_CLOEXEC); /* @memfd */
        eventfd(0, EFD_CLOEXEC); /* @eventfd */
        timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC); /* @timerfd */
        signalfd(-1, &signals, SFD_CLOEXEC); /* @signalfd */
        inotify_init1(IN_CLOEXEC); /* @inotify */
        syscall(SYS_pidfd_open, getpid(), 0); /* @pidfd */
    }
    return 0;
}
