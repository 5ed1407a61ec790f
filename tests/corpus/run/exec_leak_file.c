/* A file without close-on-exec, which a program started later inherits by accident.
 *
 * run:
 * expect: exec-leak error fd=3 @open
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int fd = open("/dev/zero", O_RDONLY); /* @open */
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    close(fd);
    return 0;
}
