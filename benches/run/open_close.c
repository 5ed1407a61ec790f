/* Opens and closes one file again and again: nothing else happens between two stops of a tracer.
 *
 *     open_close SECONDS FILE        prints microseconds per pair */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: open_close SECONDS FILE\n");
        return 2;
    }
    double start = now(), end = start + atof(argv[1]), time = start;
    long pairs = 0;
    while (time < end) {
        int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            perror("open");
            return 1;
        }
        close(fd);
        if (++pairs % 64 == 0)
            time = now();
    }
    printf("%.4f\n", (time - start) * 1e6 / pairs);
    return 0;
}
