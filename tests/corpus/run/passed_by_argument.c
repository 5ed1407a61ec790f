/* A descriptor whose number the child is told in an argument.
 *
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    char option[32];
    int fd = open("/dev/zero", O_RDONLY);
    snprintf(option, sizeof option, "--status-fd=%d", fd);
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "true", "sh", option, (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    close(fd);
    return 0;
}
