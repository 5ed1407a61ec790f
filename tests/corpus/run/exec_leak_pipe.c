/* Both ends of a pipe without close-on-exec, which a program started later inherits by accident.
 *
 * run:
 * expect: exec-leak error x2 @open
 */
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int ends[2];
    if (pipe(ends) != 0) /* @open */
        return 1;
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    close(ends[0]);
    close(ends[1]);
    return 0;
}
