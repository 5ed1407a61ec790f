/* A pool: one thread opens, another closes, each descriptor once. The opener is not the owner.
 *
 * build: -pthread
 * run:
 * expect: nothing
 * run: --quarantine
 * expect: nothing
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum { JOBS = 300 };

static int queue[2];

static void *worker(void *unused) {
    (void)unused;
    int fd;
    while (read(queue[0], &fd, sizeof fd) == sizeof fd)
        if (close(fd) != 0)
            _exit(1);
    return NULL;
}

int main(void) {
    pthread_t workers[3];
    if (pipe2(queue, O_CLOEXEC) != 0)
        return 1;
    for (int i = 0; i < 3; i++)
        pthread_create(&workers[i], NULL, worker, NULL);
    for (int i = 0; i < JOBS; i++) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (write(queue[1], &fd, sizeof fd) != sizeof fd)
            return 2;
    }
    close(queue[1]);
    for (int i = 0; i < 3; i++)
        pthread_join(workers[i], NULL);
    return close(queue[0]);
}
