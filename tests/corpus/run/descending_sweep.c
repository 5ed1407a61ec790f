/* All numbers down to 3 are closed, with open ones among them. What is open after it is a new life.
 *
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int base = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(base);
    for (int i = 0; i < 10; i++)
        fcntl(0, F_DUPFD_CLOEXEC, 7 + 13 * i);
    for (int number = 255; number >= 3; number--)
        close(number);
    return close(open("/dev/null", O_RDONLY | O_CLOEXEC));
}
