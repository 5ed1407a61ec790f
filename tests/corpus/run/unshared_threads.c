/* Two threads with tables of their own (CLONE_FILES unshared) close the same number once each.
 *
 * build: -pthread
 * run:
 * expect: nothing
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

static int file;

static void *with_own_table(void *unused) {
    (void)unused;
    if (unshare(CLONE_FILES) != 0)
        _exit(1);
    if (close(file) != 0)
        _exit(2);
    int other = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (other != file || close(other) != 0)
        _exit(3);
    return NULL;
}

int main(void) {
    file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, with_own_table, NULL) != 0)
            return 4;
        pthread_join(thread, NULL);
    }
    return close(file) == 0 ? 0 : 5;
}
