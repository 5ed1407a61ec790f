/* `dup2` over a descriptor that is open and that the program still counts on.
 *
 * run:
 * expect: overwritten-fd note fd=3 @open @dup2
 */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int log = open("log", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* @open */
    int other = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(other, log); /* @dup2 */
    close(other);
    if (write(log, "lost\n", 5) != 5)
        return 1;
    close(log);
    return 0;
}
