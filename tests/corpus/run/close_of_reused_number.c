/* The number of a closed file is in use again when it is closed the second time: the victim's owner gets
 * EBADF for its own close.
 *
 * build: -pthread
 * run:
 * expect: double-close error fd=3 @victim @stale @own
 * run: --quarantine
 * expect: double-close error @open @first @stale
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static int old;

static void *stale_closer(void *unused) {
    (void)unused;
    close(old); /* @stale */
    return NULL;
}

int main(void) {
    old = open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    close(old); /* @first */
    int victim = open("/dev/zero", O_RDONLY | O_CLOEXEC); /* @victim */
    pthread_t thread;
    if (pthread_create(&thread, NULL, stale_closer, NULL) != 0)
        return 1;
    pthread_join(thread, NULL);
    close(victim); /* @own */
    return 0;
}
