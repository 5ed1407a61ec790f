/* A descriptor that the parent moves to number 3 for its child, as protocols over a fixed number need it.
 *
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    pid_t child = fork();
    if (child == 0) {
        dup2(fd, 3);
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    close(fd);
    close(spare);
    return 0;
}
