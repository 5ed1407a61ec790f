/* A process that shares its parent's table (CLONE_FILES without CLONE_THREAD) closes a descriptor; the
 * parent closes it again.
 *
 * run:
 * expect: double-close error fd=3 @open @child @parent
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536] __attribute__((aligned(16)));

static int child(void *fd) {
    close(*(int *)fd); /* @child */
    return 0;
}

int main(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    pid_t process = clone(child, stack + sizeof stack, CLONE_FILES | CLONE_VM | SIGCHLD, &fd);
    if (process < 0)
        return 1;
    waitpid(process, NULL, 0);
    close(fd); /* @parent */
    return 0;
}
