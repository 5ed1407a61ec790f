/* `close_range` closes everything; the numbers are in use again afterwards. Then it only sets the flags.
 *
 * run:
 * expect: nothing
 * run: --quarantine
 * expect: nothing
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++)
            if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
                return 1;
        if (close_range(3, ~0U, 0) != 0)
            return 2;
    }
    int fd = open("/dev/null", O_RDONLY);
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        return 3;
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    return close(fd);
}
