/* `posix_spawn` with file actions: one descriptor moved, one closed, one forgotten.
 *
 * run:
 * expect: exec-leak error x1 @forgotten
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(void) {
    char *arguments[] = {"true", NULL};
    int output = open("output", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int closed = open("/dev/zero", O_RDONLY);
    int forgotten = open("/dev/null", O_RDONLY); /* @forgotten */
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_addclose(&actions, closed);
    pid_t child;
    if (posix_spawn(&child, "/bin/true", &actions, NULL, arguments, environ) != 0)
        return 1;
    waitpid(child, NULL, 0);
    posix_spawn_file_actions_destroy(&actions);
    close(output);
    close(closed);
    close(forgotten);
    return 0;
}
