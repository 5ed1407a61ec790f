/* A thread that is not the first one executes the program again; the closes before and after are of
 * different lives.
 *
 * build: -pthread
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static void *again(void *program) {
    close(open("/dev/null", O_RDONLY | O_CLOEXEC));
    execl("/proc/self/exe", program, "again", (char *)NULL);
    _exit(1);
}

int main(int count, char **arguments) {
    pthread_t thread;
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (count > 1)
        return close(fd);
    if (pthread_create(&thread, NULL, again, arguments[0]) != 0)
        return 1;
    pthread_join(thread, NULL);
    return 2;
}
