/* A program that a signal ends, with descriptors open.
 *
 * run:
 * expect: leak warning x3 @open
 * exit: 139
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

int main(void) {
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (int i = 0; i < 3; i++)
        open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    raise(SIGSEGV);
    return 0;
}
