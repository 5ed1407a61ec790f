/* Parent and children close the same numbers, each in its own table.
 *
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int ends[2];
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (pipe(ends) != 0)
        return 1;
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            close(ends[0]);
            close(file);
            close(ends[1]);
            _exit(0);
        }
    }
    close(ends[1]);
    close(file);
    char byte;
    while (read(ends[0], &byte, 1) > 0)
        ;
    close(ends[0]);
    while (wait(NULL) > 0)
        ;
    return 0;
}
