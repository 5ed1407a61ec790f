/* One of fifty descriptors of one line stays open; the others live for microseconds.
 *
 * run:
 * expect: leak warning x1 @open
 */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    for (int i = 0; i < 50; i++) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
        if (i != 20)
            close(fd);
    }
    usleep(300 * 1000);
    return 0;
}
