/* One million descriptors over time, up to 20,000 of them open at once (as many as the hard limit allows);
 * all are closed in the end.
 *
 * seconds: 240
 * run:
 * expect: nothing
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ALL = 1000000, LIVE = 20000 };

static int live[LIVE];

int main(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    limit.rlim_cur = limit.rlim_max < LIVE + 100 ? limit.rlim_max : LIVE + 100;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    int all = limit.rlim_cur - 100;
    for (int i = 0; i < ALL; i++) {
        if (i >= all)
            close(live[i % all]);
        live[i % all] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (live[i % all] < 0)
            return 2;
    }
    for (int i = 0; i < all; i++)
        close(live[i]);
    return 0;
}
