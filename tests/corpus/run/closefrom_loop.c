/* All numbers from 3 are closed, open or not, as programs do before they start another one.
 *
 * run:
 * expect: nothing
 * run: --quarantine
 * expect: nothing
 */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    for (int i = 0; i < 4; i++) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (i % 2 == 1)
            close(fd);
    }
    for (int round = 0; round < 2; round++)
        for (int number = 3; number < 300; number++)
            close(number);
    return 0;
}
