/* Ten thousand short processes, twenty at a time.
 *
 * seconds: 120
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int shared = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 10000; i++) {
        if (i >= 20)
            wait(NULL);
        pid_t child = fork();
        if (child < 0)
            return 1;
        if (child == 0) {
            int own = open("/dev/zero", O_RDONLY | O_CLOEXEC);
            close(own);
            close(shared);
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        ;
    return close(shared);
}
