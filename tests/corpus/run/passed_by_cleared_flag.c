/* A descriptor whose close-on-exec flag the parent clears on purpose.
 *
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    pid_t child = fork();
    if (child == 0) {
        fcntl(fd, F_SETFD, 0);
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    close(fd);
    return 0;
}
