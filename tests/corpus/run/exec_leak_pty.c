/* The master of a pseudoterminal without close-on-exec, which a program started later inherits by accident.
 *
 * run:
 * expect: exec-leak error fd=3 @open
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int fd = posix_openpt(O_RDWR | O_NOCTTY); /* @open */
    if (grantpt(fd) != 0 || unlockpt(fd) != 0)
        return 1;
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    close(fd);
    return 0;
}
