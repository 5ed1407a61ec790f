/* `vfork` shares the memory, but not the table: the child's closes leave the parent's descriptors open.
 *
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    for (int i = 0; i < 3; i++) {
        int file = open("/dev/null", O_RDONLY);
        pid_t child = vfork();
        if (child == 0) {
            close(file);
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        waitpid(child, NULL, 0);
        if (close(file) != 0)
            return 1;
    }
    return 0;
}
