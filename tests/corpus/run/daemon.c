/* A daemon by two forks: it closes 0 to 2 and opens /dev/null there.
 *
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    if (fork() != 0)
        return wait(NULL) < 0;
    setsid();
    if (fork() != 0)
        _exit(0);
    for (int number = 0; number < 3; number++)
        close(number);
    if (open("/dev/null", O_RDWR) != 0 || dup(0) != 1 || dup(0) != 2)
        _exit(1);
    int file = open("log", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(file);
    _exit(0);
}
