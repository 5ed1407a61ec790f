/* A descriptor that two threads close, one after the other.
 *
 * build: -pthread
 * run:
 * expect: double-close error fd=3 @open @first @second
 * says: closer
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static int fd;

static void *closer(void *unused) {
    (void)unused;
    pthread_setname_np(pthread_self(), "closer");
    close(fd); /* @first */
    return NULL;
}

int main(void) {
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    pthread_t thread;
    if (pthread_create(&thread, NULL, closer, NULL) != 0)
        return 1;
    pthread_join(thread, NULL);
    close(fd); /* @second */
    return 0;
}
